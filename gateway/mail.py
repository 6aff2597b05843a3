"""A source of mail, with what opens its attachments: put together from the formats they have."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.cda.reception import Reception as CdaReception
from adapters.cda.settings import CdaSourceSettings
from adapters.doors.reception import Reception
from adapters.mail.imap import ImapSource
from adapters.mail.listener import SmtpSource
from adapters.mail.reception import Kind, Receptions
from adapters.mail.settings import ImapSourceSettings, MailSourceSettings, SmtpSourceSettings
from adapters.xdm.reception import XdmReception
from adapters.xdm.settings import XdmSourceSettings
from gateway.documents import DocumentHeaders
from gateway.ports import Clock, Intake


def mail_source(
    settings: ImapSourceSettings | SmtpSourceSettings,
    intake: Intake,
    clock: Clock,
    documents: DocumentHeaders,
) -> ImapSource | SmtpSource:
    """The source that these settings describe. Raises ``adapters.tls.TlsUnusable``."""
    receptions = mail_receptions(documents)
    if isinstance(settings, ImapSourceSettings):
        return ImapSource(settings, intake, clock, receptions)
    return SmtpSource(settings, intake, clock, receptions)


def mail_receptions(documents: DocumentHeaders) -> Receptions:
    """For a source of mail: each kind of attachment under the source's own name and limits."""

    def make(settings: MailSourceSettings, intake: Intake) -> Mapping[Kind, Reception]:
        cda = CdaSourceSettings(
            name=settings.name,
            zone=settings.zone,
            authorities=settings.authorities,
            commit_timeout_seconds=settings.commit_timeout_seconds,
            document_bytes_max=settings.document_bytes_max,
            reads_max=settings.reads_max,
        )
        xdm = XdmSourceSettings(
            name=settings.name,
            zone=settings.zone,
            authorities=settings.authorities,
            commit_timeout_seconds=settings.commit_timeout_seconds,
            archive_bytes_max=settings.mail_bytes_max,
            document_bytes_max=settings.document_bytes_max,
            unpacked_bytes_max=settings.unpacked_bytes_max,
            reads_max=settings.reads_max,
        )
        return {"cda": CdaReception(cda, intake), "xdm": XdmReception(xdm, intake, documents)}

    return make
