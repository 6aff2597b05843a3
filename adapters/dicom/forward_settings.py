"""What the configuration says of a PACS to which instances are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from adapters.dicom.settings import AeTitle
from adapters.tls import ClientTlsSettings

Connect = Annotated[str, StringConstraints(pattern=r"^(.+:[0-9]{1,5})?$")]


class StorageSettings(BaseModel):
    """A storage SCP (C-STORE) or a DICOMweb server (STOW-RS)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["dicom"] = Field(
        description="A PACS: the instances of a study are sent there once the study is complete."
    )
    protocol: Literal["dimse", "stow"] = Field(
        default="dimse", description="C-STORE over associations, or STOW-RS over HTTP."
    )
    connect: Connect = Field(default="", description="With dimse: host:port where it listens.")
    ae_title: AeTitle | None = Field(default=None, description="With dimse: its AE title.")
    own_title: AeTitle = Field(
        default="ECLUSE", description="With dimse: the AE title by which we call."
    )
    url: str = Field(
        default="",
        description="With stow: the base URL of its DICOMweb service; /studies follows.",
    )
    token_file: Path | None = Field(
        default=None,
        description="With stow: a file whose first line is a bearer token; read at each attempt.",
    )
    username: str = Field(
        default="", max_length=200, description="With stow: the user of HTTP Basic."
    )
    password_file: Path | None = Field(
        default=None, description="With stow: a file whose first line is that user's password."
    )
    tls: ClientTlsSettings | None = Field(
        default=None,
        description="TLS: authorities, our own certificate, the name to expect. Nothing: plain "
        "with dimse, the machine's authorities with an https URL.",
    )
    timeout_seconds: float = Field(
        default=20.0,
        gt=0,
        le=480,
        description="The longest time for one turn. What has not gone by then goes in the next "
        "one, so that it bounds one object, not one study. At most four fifths of "
        "worker.lease_seconds.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="The longest time to connect and to associate."
    )
    keep_seconds: float = Field(
        default=10.0,
        ge=0,
        le=600,
        description="With dimse: how long an association without work is kept.",
    )
    transcode: bool = Field(
        default=True,
        description="Decompress, to explicit or implicit VR little endian, what was compressed "
        "without loss and what the peer does not take as it is.",
    )
    rewritten_bytes_max: int = Field(
        default=512 << 20,
        ge=1 << 20,
        le=4 << 30,
        description="The largest object that is changed or decompressed, which happens in memory; "
        "larger ones are refused. Objects that go as they are have no such limit.",
    )
    rules: tuple[Path, ...] = Field(
        default=(),
        max_length=20,
        description="Rule files: what is changed in each object on its way there.",
    )
    commitment: bool = Field(
        default=False,
        description="With dimse: ask for storage commitment, and call a study delivered when it "
        "is committed. The answer may come to any of our DICOM sources.",
    )
    commitment_wait_seconds: float = Field(
        default=3_600.0,
        gt=0,
        le=7 * 86_400,
        description="How long the answer is waited for; then everything is sent and asked again.",
    )
    permanent_rejection: Literal["wait", "refuse"] = Field(
        default="wait",
        description="What a permanent rejection of the association means: its configuration or "
        "ours is wrong and nothing is tried for a minute (wait), or a dead letter (refuse).",
    )

    @model_validator(mode="after")
    def _address(self) -> Self:
        if self.protocol == "dimse":
            if not self.connect or self.ae_title is None:
                raise ValueError("protocol dimse needs connect and ae_title")
            if self.url or self.token_file or self.username or self.password_file:
                raise ValueError("url and credentials are for protocol stow")
            return self
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("protocol stow needs url, an http:// or https:// URL with a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("url has no credentials and ends with the path")
        if self.connect or self.ae_title is not None or self.commitment:
            raise ValueError("connect, ae_title and commitment are for protocol dimse")
        if bool(self.username) != (self.password_file is not None):
            raise ValueError("username and password_file go together")
        if self.token_file is not None and self.username:
            raise ValueError("token_file and username exclude one another")
        if self.tls is not None and parts.scheme != "https":
            raise ValueError("tls is given, but url does not begin with https:")
        return self
