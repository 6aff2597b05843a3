"""Mails made for tests by Python's own writer, as practice software and MSSanté clients send them."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 8


def mail(*attachments: tuple[str, str, bytes], subject: str = "", **headers: str) -> EmailMessage:
    """A mail with a text and these attachments: name, media type, content."""
    made = EmailMessage()
    made["From"] = "labo@labo.mssante.fr"
    made["To"] = "cabinet@cabinet.mssante.fr"
    # Référentiel socle MSSanté no. 2, ECO.2.1.3.
    made["Subject"] = subject or "XDM/1.0/DDM+CR d'examens biologiques PAT-TROIS dominique"
    made["Message-ID"] = "<1.ecluse@labo.mssante.fr>"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content("Bonjour,\nveuillez trouver ci-joint…\n.\nCordialement\n")
    for name, media_type, content in attachments:
        main, _, sub = media_type.partition("/")
        made.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return made


def written(made: EmailMessage) -> bytes:
    """As it travels."""
    return made.as_bytes(policy=SMTP)


def mssante(archive: bytes) -> EmailMessage:
    """What ECO.2.1.1 asks for: IHE_XDM.zip, and the same as PDF/A-1."""
    return mail(
        ("IHE_XDM.zip", "application/zip", archive),
        ("20240101_CR-BIO_PAT-TROIS_DOMINIQUE_42.pdf", "application/pdf", PDF),
        X_MSS_NIL="123456", X_MSS_CODECDA="11502-2", X_MSS_INS="O",
    )  # fmt: skip


def report(returned: EmailMessage) -> bytes:
    """A notification of RFC 8098 that returns the whole original, as the volet MSSanté asks."""
    made = EmailMessage()
    made["Subject"] = "[KO Intégration système !] " + str(returned["Subject"])
    made.set_content("non intégré")
    made.add_attachment(
        b"Disposition: x; processed/error\r\n", "message", "disposition-notification"
    )
    made.add_attachment(returned)
    made.replace_header("Content-Type", "multipart/report; report-type=disposition-notification; "
                        f'boundary="{made.get_boundary() or "RB"}"')  # fmt: skip
    made.set_boundary("RB")
    return written(made)
