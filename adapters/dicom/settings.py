"""The configuration of a DICOM source."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from adapters.certificate import ClientName
from adapters.dicom.store_settings import StoreSettings, Uid
from adapters.tls import ClientTlsSettings, TlsSettings

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[\x21-\x5b\x5d-\x7e ]{1,16}$")
]
"""An AE title: 1 to 16 printable ASCII characters but the backslash (PS3.5 6.2, VR AE)."""


class DicomPeerSettings(BaseModel):
    """Another application entity: from where it calls, and where it listens itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ae_title: AeTitle = Field(description="Its AE title.")
    addresses: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description="IP addresses or networks (CIDR) from which it may call; empty: any.",
    )
    certificates: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description="Names of which its client certificate must have one (as clients of an MLLP "
        "source); empty: none is asked for. Needs tls.client_ca.",
    )
    connect: str = Field(
        default="",
        pattern=r"^(.+:[0-9]{1,5})?$",
        description="host:port where it listens, for associations that we open.",
    )
    tls: ClientTlsSettings | None = Field(
        default=None, description="TLS of associations that we open; nothing: plain."
    )

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for text in addresses:
            ipaddress.ip_network(text)
        return addresses

    @field_validator("certificates")
    @classmethod
    def _names(cls, certificates: tuple[str, ...]) -> tuple[str, ...]:
        for text in certificates:
            ClientName.parse(text)
        return certificates


class DicomSourceSettings(StoreSettings):
    """A storage SCP: where it listens, whom it answers, what it accepts, its limits."""

    type: Literal["dicom"] = Field(default="dicom", description="The kind of source.")
    listen: str = Field(
        default="127.0.0.1:11112",
        pattern=r"^.+:[0-9]{1,5}$",
        description="host:port; [::1]:port for IPv6; port 0 is any free.",
    )
    ae_title: AeTitle = Field(default="ECLUSE", description="The AE title that senders call.")
    require_called_aet: bool = Field(
        default=False, description="Reject associations that call another AE title than ae_title."
    )
    calling_aets: list[AeTitle] = Field(
        default_factory=list,
        max_length=1_000,
        description="AE titles that may send; empty: any. A title is a claim, not a proof.",
    )
    transfer_syntaxes_by_class: dict[Uid, list[Uid]] = Field(
        default_factory=dict,
        max_length=500,
        description="SOP classes, private ones too, that are accepted with a list of their own.",
    )
    peers: list[DicomPeerSettings] = Field(
        default_factory=list,
        max_length=1_000,
        description="Application entities whose addresses and certificates are known. One that "
        "calls by a title named here must fulfil what is said of it.",
    )
    only_peers: bool = Field(
        default=False, description="Reject calling AE titles that peers does not name."
    )
    tls: TlsSettings | None = Field(
        default=None,
        description="Take TLS only (PS3.15 B.12, the BCP 195 profile); nothing: plain.",
    )
    associations_max: int = Field(
        default=50, ge=1, le=1_000, description="Associations at one time; more are rejected."
    )
    associations_per_address_max: int = Field(
        default=20, ge=1, le=1_000, description="The same for one address."
    )
    pdu_bytes_max: int = Field(
        default=131_072, ge=4_096, le=1_048_576, description="The longest PDU that is announced."
    )
    association_timeout_seconds: float = Field(
        default=15.0, gt=0, le=300, description="How long a connection may take to ask or to close."
    )
    idle_timeout_seconds: float = Field(
        default=120.0, gt=0, le=3_600, description="Silence after which an association is aborted."
    )
    stop_grace_seconds: float = Field(
        default=10.0, ge=0, le=300, description="How long a stop waits for objects in flight."
    )
    count_at: AeTitle | None = Field(
        default=None,
        description="A peer (with connect) that is asked by C-FIND which instances a study has, "
        "once it has been quiet for half of quiet_seconds; nothing: nobody is asked.",
    )
    commitment: Literal["held", "delivered", "off"] = Field(
        default="held",
        description="What is committed when a sender asks (storage commitment): what is held "
        "here, or only what every destination has as well; off: the service is not offered. "
        "Senders need connect in peers.",
    )
    commitment_wait_seconds: float = Field(
        default=3_600.0,
        gt=0,
        le=7 * 86_400,
        description="With commitment delivered: how long the destinations are waited for.",
    )
    query: Literal["peers", "any", "off"] = Field(
        default="peers",
        description="Who may query and retrieve what is held, by C-FIND, C-MOVE and C-GET: AE "
        "titles that peers names, any that may associate, or nobody. Objects are moved only to "
        "peers that have connect.",
    )
    worklist: Literal["peers", "any", "off"] = Field(
        default="peers",
        description="Who may ask for the modality worklist, which is made of the orders of HL7 v2 "
        "sources: AE titles that peers names, any that may associate, or nobody.",
    )
    query_results_max: int = Field(
        default=5_000, ge=1, le=100_000, description="The most matches of one query."
    )
    retrieve_timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3_600,
        description="How long the receiver of a retrieved object may take for it.",
    )
    rewritten_bytes_max: int = Field(
        default=512 << 20,
        ge=1 << 20,
        le=4 << 30,
        description="The largest object that is decompressed, in memory, for a receiver that does "
        "not take it as it is.",
    )

    @model_validator(mode="after")
    def _certificates_are_shown(self) -> DicomSourceSettings:
        shown = self.tls is not None and self.tls.client_ca is not None
        if not shown and any(peer.certificates for peer in self.peers):
            raise ValueError("peers are told apart by certificates: set tls.client_ca")
        return self

    @model_validator(mode="after")
    def _counts_at_a_peer(self) -> DicomSourceSettings:
        known = {peer.ae_title for peer in self.peers if peer.connect}
        if self.count_at is not None and self.count_at not in known:
            raise ValueError("count_at must name one of peers that has connect")
        return self

    @model_validator(mode="after")
    def _answers_in_time(self) -> DicomSourceSettings:
        if self.commit_timeout_seconds >= self.idle_timeout_seconds:
            raise ValueError("commit_timeout_seconds must be shorter than idle_timeout_seconds")
        return self
