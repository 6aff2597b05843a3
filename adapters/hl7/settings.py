"""Configuration of the sources of HL7 v2: MLLP, HTTP, folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adapters.certificate import ClientName
from adapters.doors.settings import MIB, FolderDoorSettings, HttpDoorSettings
from adapters.hl7.charset import charset_named
from adapters.tls import ClientTlsSettings, TlsSettings

_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+\Z")
_LOCAL_TYPE = re.compile(r"[A-Z][A-Z0-9]{2}(\^[A-Z][A-Z0-9]{2})?\Z")
# Movements of the French PAM profile that table 0003 does not know (IHE France
# 2.11; Z80 to Z85 of its earlier versions).
FRENCH_EVENTS = ("ADT^Z80", "ADT^Z81", "ADT^Z84", "ADT^Z85", "ADT^Z99")


class Hl7SourceSettings(BaseModel):
    """What a source of HL7 v2 takes, whatever the way in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, description="Name of the source, unique")]
    zone: str = Field("Europe/Paris", description="Time zone of times without offset, and of ours")
    authorities: dict[str, str] = Field(
        default_factory=dict, description="Assigning authority: namespace id (CX-4.1) to OID"
    )
    charset_default: str = Field(
        "UTF-8",
        description="Character set of messages that are not ASCII and whose MSH-18 is empty; "
        "empty here means that such messages are refused",
    )
    charset_fallbacks: tuple[str, ...] = Field(
        (),
        max_length=8,
        description="Character sets that are tried, in this order, when a message is not in the "
        "one that it declares; the one taken is recorded with the message. Empty: it is refused",
    )
    local_types: tuple[str, ...] = Field(
        FRENCH_EVENTS, description="Types beyond HL7's tables that are taken: ADT^Z99, ZXX"
    )
    processing_ids: tuple[str, ...] = Field(
        (), description="MSH-11.1 values that are taken (P, T, D); empty takes all"
    )
    profile: Path | None = Field(
        None, description="A site's own profile file that every message is held against; see hl7.md"
    )
    profile_mode: Literal["refuse", "flag"] = Field(
        "refuse",
        description="What becomes of a message that breaks the profile: refused with AE and the "
        "profile's ERR, or taken with the findings noted",
    )
    permission_segments: tuple[str, ...] = Field(
        ("ZFA", "CON"), description="Segments in which a message speaks of permission"
    )
    acknowledgement: Literal["auto", "original", "enhanced"] = Field(
        "auto",
        description="auto: as MSH-15 and MSH-16 of each message ask; original: always AA, AE or "
        "AR on the connection; enhanced: always CA, CE or CR unless MSH-15 says otherwise",
    )
    duplicates: Literal["flag", "refuse"] = Field(
        "flag",
        description="A control id that another message of the source had: take and flag it, or "
        "refuse it (AE 205). The same bytes again get the same answer either way",
    )
    sequence_numbers: Literal["off", "on"] = Field(
        "off", description="on: MSH-13 is checked, and the expected number told in MSA-4"
    )
    profile_checks: bool = Field(
        True,
        description="Refuse a message that breaks the profile it names in MSH-21 (CI-SIS) in its "
        "acknowledgement",
    )
    profile_bytes_max: int = Field(
        8 << 20,
        ge=0,
        description="Size of a message up to which the documents inside it are looked into for "
        "that; of a larger one only the message around them is judged",
    )
    frame_bytes_max: int = Field(16 << 20, ge=1 << 10, description="Largest message, in bytes")
    continuation_timeout_seconds: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="How long after its newest fragment a continued message (DSC) waits for "
        "the next one before it goes to the dead letters",
    )
    continuation_fragments_max: int = Field(
        100, ge=2, le=10_000, description="Fragments of one continued message"
    )
    continuation_bytes_max: int = Field(
        64 << 20, ge=1 << 10, le=256 << 20, description="Bytes of one continued message"
    )

    @property
    def linked(self) -> bool:
        """Whether there is a way back to the sender for application acknowledgements."""
        return False

    @property
    def tells_deposits(self) -> bool:
        """Whether business acknowledgements are given."""
        return False

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{zone!r} is not a time zone such as Europe/Paris") from None
        return zone

    @field_validator("charset_default")
    @classmethod
    def _known_charset(cls, name: str) -> str:
        charset = charset_named(name)
        if name and (charset is None or charset.wide):
            raise ValueError(f"{name!r} is not a supported character set: try UTF-8 or 8859/15")
        return name

    @field_validator("charset_fallbacks")
    @classmethod
    def _known_charsets(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            charset = charset_named(name)
            if charset is None or charset.wide or charset.switched:
                raise ValueError(f"{name!r} cannot be a fallback: try WINDOWS-1252 or 8859/15")
        return names

    @field_validator("authorities")
    @classmethod
    def _oids(cls, authorities: dict[str, str]) -> dict[str, str]:
        for namespace, oid in authorities.items():
            if not _OID.match(oid):
                raise ValueError(f"the authority {namespace!r} is given {oid!r}, not an OID")
        return authorities

    @field_validator("local_types")
    @classmethod
    def _types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        for text in types:
            if not _LOCAL_TYPE.match(text):
                raise ValueError(f"{text!r} is not a message type such as ADT^Z99 or ZXX")
        return types


class MllpSourceSettings(Hl7SourceSettings):
    """One MLLP listener: where it listens, what it takes, and its limits."""

    type: Literal["mllp"] = Field("mllp", description="The kind of source")
    listen: str = Field("127.0.0.1:2575", description="host:port; port 0 takes any free port")
    tls: TlsSettings | None = Field(
        None, description="TLS of the port; nothing: messages travel in the clear"
    )
    clients: tuple[str, ...] = Field(
        (),
        max_length=1_000,
        description="Whose connections belong to this source, by the client's certificate: "
        "fingerprint:<SHA-256>, subject:CN=…,O=…, cn:…, dns:…, email:…, uri:… or ip:…. Empty: "
        "every client that tls.client_ca trusts. Sources with the same listen and tls share the "
        "port, each with its own clients",
    )
    return_link: str = Field(
        "",
        description="host:port of the sender's own listener, to which application "
        "acknowledgements go; empty: none are sent",
    )
    return_link_timeout_seconds: float = Field(
        30.0, gt=0, le=600, description="How long the return link may take to answer"
    )
    return_link_confirmed: bool = Field(
        True,
        description="The return link confirms each acknowledgement with CA (its MSH-15 is AL); "
        "false: it says nothing, and what was written to it counts as sent",
    )
    return_link_tls: ClientTlsSettings | None = Field(
        None,
        description="TLS of the return link, with our own certificate where its listener asks "
        "for one; nothing: acknowledgements travel in the clear",
    )
    return_link_mllp_release: Literal[1, 2] = Field(
        1, description="The release of MLLP that the sender's own listener speaks"
    )
    business_acknowledgements: bool = Field(
        False,
        description="A message of the profile CISIS_CDA_HL7_V2 that asks for it (ACK_RECEPTION) "
        "gets a ZAM^Z01 over the return link once its document is in the record, or cannot be",
    )
    junk_bytes_max: int = Field(
        64 << 10, ge=0, description="Bytes outside a block after which the connection is closed"
    )
    evidence_bytes_max: int = Field(
        64 << 10, ge=1 << 10, description="How much is kept of a message that was cut or too large"
    )
    frames_in_flight_max: int = Field(
        32, ge=1, description="Messages of one connection that await their commit at a time"
    )
    held_bytes_max: int = Field(
        512 << 20, ge=1 << 20, description="Bytes of all connections in memory at a time"
    )
    held_bytes_per_address_max: int = Field(
        256 << 20, ge=1 << 20, description="Bytes of all connections of one address in memory"
    )
    connections_max: int = Field(1024, ge=1, description="Connections at a time")
    connections_per_address_max: int = Field(
        128, ge=1, description="Connections of one address at a time"
    )
    idle_timeout_seconds: float = Field(
        3600.0, gt=0, description="A connection that sends nothing for so long is closed"
    )
    frame_timeout_seconds: float = Field(
        60.0, gt=0, description="The most a message may take from its first byte to its last"
    )
    write_timeout_seconds: float = Field(
        30.0, gt=0, description="A sender that does not read its answers for so long is closed"
    )
    settle_seconds: float = Field(
        0.2,
        gt=0,
        description="After an end byte without its carriage return, how long to wait for that",
    )
    stop_timeout_seconds: float = Field(
        10.0, ge=0, description="On stop, how long to wait for messages in flight"
    )
    mllp_release: Literal[1, 2] = Field(
        1,
        description="2: each block is answered by a commit acknowledgement (06 or 15) before "
        "its HL7 answer, and ours are awaited",
    )
    commit_timeout_seconds: float = Field(
        10.0, gt=0, description="MLLP release 2: how long to await a commit acknowledgement"
    )
    batch_messages_max: int = Field(
        1000, ge=1, le=4000, description="Messages in one block that holds a batch (FHS, BHS)"
    )

    @field_validator("clients")
    @classmethod
    def _readable_clients(cls, clients: tuple[str, ...]) -> tuple[str, ...]:
        for text in clients:
            ClientName.parse(text)
        return clients

    @model_validator(mode="after")
    def _listenable(self) -> Self:
        host, port = self.host_and_port()
        if not host or not 0 <= port <= 65535:
            raise ValueError(f"listen: {self.listen!r} is not host:port")
        if self.return_link:
            host, port = split_address(self.return_link)
            if not host or not 0 < port <= 65535:
                raise ValueError(f"return_link: {self.return_link!r} is not host:port")
        if self.return_link_tls is not None and not self.return_link:
            raise ValueError("return_link_tls is given without a return_link")
        business = self.business_acknowledgements
        if business and not self.return_link:
            raise ValueError("business_acknowledgements have no way to go: set return_link")
        if self.return_link and self.acknowledgement == "original" and not business:
            raise ValueError("the original mode has no use for a return_link")
        if self.held_bytes_max < self.frame_bytes_max:
            raise ValueError("held_bytes_max is less than frame_bytes_max")
        if self.held_bytes_per_address_max < self.frame_bytes_max:
            raise ValueError("held_bytes_per_address_max is less than frame_bytes_max")
        return self

    @model_validator(mode="after")
    def _clients_show_certificates(self) -> Self:
        if self.clients and (self.tls is None or self.tls.client_ca is None):
            raise ValueError("clients are told apart by certificates: set tls.client_ca")
        return self

    def client_names(self) -> tuple[ClientName, ...]:
        """``clients``, read."""
        return tuple(map(ClientName.parse, self.clients))

    def host_and_port(self) -> tuple[str, int]:
        """``listen`` in its two parts; an IPv6 address is written in brackets."""
        return split_address(self.listen)

    @property
    def linked(self) -> bool:
        """Whether there is a way back to the sender for application acknowledgements."""
        return bool(self.return_link)

    @property
    def tells_deposits(self) -> bool:
        """Whether business acknowledgements are given."""
        return self.business_acknowledgements

    def return_host_and_port(self) -> tuple[str, int] | None:
        """``return_link`` in its two parts, or None."""
        return split_address(self.return_link) if self.return_link else None


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[IPv6]:port``; the port is -1 when it is no number."""
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port) if port.isdecimal() else -1


class Hl7FileSettings(Hl7SourceSettings):
    """What a source takes of files and bodies, which may hold many messages."""

    file_bytes_max: int = Field(
        64 * MIB, ge=1 << 10, le=256 * MIB, description="Largest file or body, in bytes"
    )
    messages_max: int = Field(
        10_000, ge=1, le=1_000_000, description="Most messages in one file or body"
    )
    batch_counts: Literal["refuse", "note"] = Field(
        "refuse",
        description="When BTS-1 or FTS-1 does not agree with what is there: refuse the whole "
        "file, or take it and note it with each message",
    )


class Hl7HttpSourceSettings(HttpDoorSettings, Hl7FileSettings):
    """``POST /intake/hl7`` on the gateway's HTTP server: HL7 over HTTP."""

    type: Literal["hl7-http"] = "hl7-http"


class Hl7FolderSourceSettings(FolderDoorSettings, Hl7FileSettings):
    """A folder of HL7 v2 files with ``incoming/``, ``accepted/`` and ``refused/``."""

    type: Literal["hl7-folder"] = "hl7-folder"
