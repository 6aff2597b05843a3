"""What the configuration says of the dead-letter desk: who is told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_NAME = r"^[a-z][a-z0-9-]{0,39}$"


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WebhookSettings(_Block):
    """A POST of JSON to somebody's HTTP address. It holds no value of a patient."""

    name: str = Field(default="webhook", pattern=_NAME, description="Its name.")
    url: str = Field(pattern=r"^https?://", max_length=2048, description="Where to.")
    secret_file: Path | None = Field(
        default=None,
        description="A file whose first line signs the body: Ecluse-Signature is sha256= and its "
        "HMAC-SHA256 in hex.",
    )
    ca_file: Path | None = Field(
        default=None, description="Certificates that are trusted; empty: the system's."
    )


class MailSettings(_Block):
    """Alerts as mails. They hold no value of a patient."""

    host: str = Field(min_length=1, description="The mail server.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="starttls (587), tls from the start (465), or none (25)."
    )
    user: str = Field(default="", description="Account at the server; empty: without.")
    password_file: Path | None = Field(
        default=None, description="A file whose first line is the account's password."
    )
    ca_file: Path | None = Field(
        default=None, description="Certificates that are trusted; empty: the system's."
    )
    sender: str = Field(pattern=r"^[^\s@]+@[^\s@]+$", description="From whom.")
    to: list[str] = Field(min_length=1, max_length=50, description="To whom.")

    @model_validator(mode="after")
    def _a_password_is_not_sent_in_the_clear(self) -> MailSettings:
        if self.user and self.security == "none":
            raise ValueError("user needs security starttls or tls: the password would be readable")
        return self


class AlertSettings(_Block):
    """Who is told of dead letters: once when a group is born, once for each threshold that it
    passes, once when it has ended. Never once per message."""

    thresholds: list[int] = Field(
        default=[10, 100, 1_000, 10_000],
        max_length=20,
        description="Sizes of a group at which people are told again.",
    )
    calm_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="How long a group must have been empty before people are told that it ended.",
    )
    console_url: str = Field(
        default="",
        pattern=r"^($|https?://)",
        description="Where people reach the console: alerts then hold a link to the group.",
    )
    webhooks: list[WebhookSettings] = Field(
        default_factory=list, max_length=10, description="HTTP addresses that are told."
    )
    mail: MailSettings | None = Field(default=None, description="People who get a mail.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> AlertSettings:
        names = [each.name for each in self.webhooks]
        if len(set(names)) < len(names) or "mail" in names:
            raise ValueError("each webhook has a name of its own, other than mail")
        if any(not 1 < each <= 10_000_000 for each in self.thresholds):
            raise ValueError("a threshold is 2 to 10000000")
        return self
