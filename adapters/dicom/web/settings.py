"""The configuration of DICOMweb: the address that is told, and sources that are stored to."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from adapters.dicom.store_settings import StoreSettings

RESERVED = frozenset({"studies", "series", "instances", "bulkdata", "frames", "metadata"})
"""Names that stand in the addresses themselves."""


class DicomwebSettings(BaseModel):
    """Search and retrieval of what is held, and the addresses that are told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        default="",
        pattern=r"^(https?://[^\s?#]+[^\s?#/])?$",
        description="The address of the DICOMweb service as others reach it, such as "
        "https://gateway.example/dicomweb: retrieve addresses begin with it. Empty: the address "
        "by which it was asked.",
    )
    retrievals_max: int = Field(
        default=16, ge=1, le=1_000, description="Retrievals that are answered at one time."
    )
    pictures: bool = Field(
        default=True,
        description="Make pictures (rendered instances, the console's viewer). Needs the extra "
        "`images`.",
    )
    picture_processes: int = Field(
        default=1, ge=1, le=8, description="Processes that make pictures; started when needed."
    )
    picture_seconds: float = Field(
        default=20.0, gt=0, le=300, description="Longest time for one picture."
    )
    picture_memory_bytes: int = Field(
        default=1 << 30,
        ge=256 << 20,
        le=16 << 30,
        description="Memory that a process may take for one picture; a frame that needs more "
        "has none.",
    )


class DicomwebSourceSettings(StoreSettings):
    """A Store transaction (STOW-RS): who may store, what is accepted, its limits."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$",
        description="The source's name; it stores at /dicomweb/<name>/studies, the first one at "
        "/dicomweb/studies as well.",
    )
    type: Literal["dicomweb"] = Field(default="dicomweb", description="The kind of source.")
    addresses: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description="IP addresses or networks (CIDR) from which may be stored; empty: any.",
    )
    request_bytes_max: int = Field(
        default=64 << 30, ge=1 << 12, description="The largest body of one request, in bytes."
    )
    instances_max: int = Field(
        default=20_000, ge=1, le=100_000, description="Instances that one request may store."
    )
    requests_max: int = Field(
        default=16, ge=1, le=1_000, description="Requests that may store at one time."
    )
    idle_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3_600, description="Longest silence while a body arrives."
    )
    request_timeout_seconds: float = Field(
        default=3_600.0, gt=0, le=86_400, description="Longest time for the body of one request."
    )
    retry_after_seconds: int = Field(
        default=5, ge=1, le=3_600, description="What Retry-After says when nothing can be kept."
    )
    request_is_study: bool = Field(
        default=True,
        description="A request with several instances, all of which were kept, brought all of "
        "its study: the study goes on at once. Set to false for senders that spread a study over "
        "several requests.",
    )

    @field_validator("name")
    @classmethod
    def _no_address(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError("this name stands in DICOMweb's own addresses: choose another")
        return name

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for text in addresses:
            ipaddress.ip_network(text)
        return addresses

    def allows(self, address: str) -> bool:
        """Whether may be stored from an IP address."""
        if not self.addresses:
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in ipaddress.ip_network(text) for text in self.addresses)
