"""What the configuration says of a FHIR server."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adapters.tls import ClientTlsSettings


class FhirServerSettings(BaseModel):
    """A FHIR R4 server that takes entries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["fhir"] = Field(description="A FHIR R4 server elsewhere, over HTTP.")
    url: str = Field(description="Its base URL: https://host/fhir.")
    interaction: Literal["transaction", "update"] = Field(
        default="transaction",
        description="How entries are put: all of a message in one transaction Bundle, or one "
        "update after the other for servers that know no transactions. Ids are ours in both.",
    )
    provenance: bool = Field(
        default=True,
        description="Put a Provenance with each delivery, whose id is made from the delivery's "
        "idempotency key. By it the server is asked, after an attempt of which nobody knows how "
        "it ended, whether the delivery is there. Without it everything is put once more.",
    )
    timeout_seconds: float = Field(
        default=20.0,
        gt=0,
        le=480,
        description="The longest time for a whole attempt, questions included. At most four "
        "fifths of worker.lease_seconds.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="The longest time to connect, handshake included."
    )
    tls: ClientTlsSettings | None = Field(
        default=None,
        description="With https: authorities, our own certificate, the name to expect. Nothing: "
        "the machine's authorities.",
    )
    token_file: Path | None = Field(
        default=None,
        description="A file whose first line is a bearer token; read again at each attempt.",
    )
    username: str = Field(default="", max_length=200, description="User of HTTP Basic.")
    password_file: Path | None = Field(
        default=None, description="A file whose first line is the password of that user."
    )

    @field_validator("url")
    @classmethod
    def _base(cls, given: str) -> str:
        parts = urlsplit(given)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("is no http:// or https:// URL with a host")
        if parts.username or parts.password:
            raise ValueError("holds credentials: they belong into token_file or password_file")
        if parts.query or parts.fragment:
            raise ValueError("ends with the path, without ? and #")
        return given.rstrip("/")

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if bool(self.username) != (self.password_file is not None):
            raise ValueError("username and password_file go together")
        if self.username and self.token_file is not None:
            raise ValueError("token_file and username exclude one another")
        if self.tls is not None and not self.url.startswith("https:"):
            raise ValueError("tls is given, but url does not begin with https:")
        return self
