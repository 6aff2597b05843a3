"""The ways in which an alert reaches people: a mail, and a POST to a webhook."""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from deadletter.alerts import NotSent
from gateway.journal.alerting import Alert

TIMEOUT_SECONDS = 10.0
_SECRET_BYTES_MAX = 4096

_HEADLINES = {
    "born": "New dead letters",
    "grown": "More dead letters",
    "ended": "Dead letters settled",
    "test": "Test",
}


def payload(alert: Alert) -> dict[str, Any]:
    """What is said of an alert: to programs as it stands."""
    return {"id": alert.id, "at": alert.at.isoformat(timespec="seconds"), **alert.body}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A POST of JSON. With ``secret_file`` the body is signed: ``Ecluse-Signature`` is
    ``sha256=`` and the HMAC-SHA256 of the body in hex (RFC 2104). ``Ecluse-Alert`` is the
    alert's number, the same at every attempt."""

    name: str
    url: str
    secret_file: Path | None = None
    ca_file: Path | None = None

    def send(self, alert: Alert) -> str:
        """Send it; the status. Raises NotSent for anything but a 2xx."""
        import httpx2

        body = json.dumps(payload(alert), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Ecluse-Alert": str(alert.id)}
        if self.secret_file is not None:
            digest = hmac.new(_secret(self.secret_file), body, hashlib.sha256).hexdigest()
            headers["Ecluse-Signature"] = f"sha256={digest}"
        try:
            # Only the status counts: what else it answers is not read, however much that is.
            with httpx2.stream(
                "POST", self.url, content=body, headers=headers, timeout=TIMEOUT_SECONDS,
                follow_redirects=False, verify=_trust(self.ca_file),
            ) as answer:  # fmt: skip
                status = answer.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise NotSent(f"{type(error).__name__}: no answer from the webhook") from None
        if not 200 <= status < 300:
            raise NotSent(f"the webhook answered {status}")
        return str(status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail to all recipients (RFC 5322), over SMTP (RFC 5321), plain, with STARTTLS
    (RFC 3207) or with TLS from the start (RFC 8314)."""

    name: str
    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    security: str = "starttls"
    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    headline: str = field(default="Écluse")

    def send(self, alert: Alert) -> str:
        """Send it; what the server accepted. Raises NotSent, also when the server refuses one of
        the recipients."""
        try:
            with self._connected() as server:
                refused = server.send_message(self.message(alert))
        except smtplib.SMTPResponseException as error:
            raise NotSent(f"the mail server answered {error.smtp_code}") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise NotSent(f"the mail server refused every recipient: {codes}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotSent(f"{type(error).__name__}: the mail server does not take it") from None
        if refused:
            return f"accepted; {len(refused)} of {len(self.to)} recipients were refused"
        return f"accepted for {len(self.to)}"

    def _connected(self) -> smtplib.SMTP:
        trust = ssl.create_default_context(cafile=self.ca_file)
        name = socket.gethostname()
        server: smtplib.SMTP
        if self.security == "tls":
            server = smtplib.SMTP_SSL(
                self.host, self.port, name, timeout=TIMEOUT_SECONDS, context=trust
            )
        else:
            server = smtplib.SMTP(self.host, self.port, name, timeout=TIMEOUT_SECONDS)
        try:
            if self.security == "starttls":
                server.starttls(context=trust)
            if self.user:
                password = _secret(self.password_file).decode() if self.password_file else ""
                _log_in(server, self.user, password)
        except BaseException:
            server.close()
            raise
        return server

    def message(self, alert: Alert) -> EmailMessage:
        """The mail of an alert. The same number has the same Message-ID."""
        mail = EmailMessage()
        mail["Subject"] = f"[{self.headline}] {subject(alert)}"
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.to)
        mail["Date"] = format_datetime(alert.at)
        domain = self.sender.rpartition("@")[2].strip("> ") or "ecluse.invalid"
        mail["Message-ID"] = f"<ecluse-alert-{alert.id}-{int(alert.at.timestamp())}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody is to answer it by itself
        mail.set_content(text(alert))
        return mail


def _log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    try:
        server.login(user, password)
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPServerDisconnected):
        raise NotSent("the mail server does not take the account") from None


def subject(alert: Alert) -> str:
    """One line of an alert."""
    said = alert.body
    if alert.kind == "test":
        return str(said["title"])
    headline = _HEADLINES[alert.kind]
    if alert.kind == "ended":
        return f"{headline}: {said['title']}"
    number = said["count"]
    return f"{headline}: {said['title']} ({number} message{'' if number == 1 else 's'})"


def text(alert: Alert) -> str:
    """An alert for a person. No value of a patient is in it."""
    said = alert.body
    if alert.kind == "test":
        return f"{said['title']}\n"
    sources = ", ".join(f"{name} ({count})" for name, count in said["sources"].items())
    lines = [
        str(said["title"]),
        "",
        f"Open messages: {said['count']}",
        *([f"Sources: {sources}"] if sources else []),
        f"Stage: {said['stage']}",
        *([f"Destination: {said['destination']}"] if said["destination"] else []),
        *([f"Where: {said['location']}"] if said["location"] else []),
        f"Cause: {said['code']}",
        f"First: {said['first_at']}",
        f"Last: {said['last_at']}",
        "",
        *([f"What to do: {said['do']}"] if alert.kind != "ended" else []),
        *(["", str(said["link"])] if said.get("link") else []),
        "",
        f"Group {said['group']}. You are told when it is born, when it passes a threshold and "
        "when it has ended.",
    ]
    return "\n".join(lines) + "\n"


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=ca_file) if ca_file is not None else True


def _secret(path: Path) -> bytes:
    """The first line of a file. Raises NotSent."""
    try:
        with path.open("rb") as stream:
            found = stream.readline(_SECRET_BYTES_MAX).rstrip(b"\r\n")
    except OSError as error:
        raise NotSent(f"{path.name}: cannot be read: {error.strerror}") from None
    if not found:
        raise NotSent(f"{path.name}: is empty")
    return found
