"""The configuration of destinations: what they are and how they are treated."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from adapters.dicom.forward_settings import StorageSettings
from adapters.fhir.settings import FhirServerSettings
from gateway.breaker import BreakerPolicy, DestinationPolicy
from gateway.model import CauseCode
from gateway.retry import RetryPolicy

NAME = r"^[a-z][a-z0-9-]{0,39}$"


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RetrySettings(_Block):
    """When a failed delivery is tried again: exponential backoff with full jitter."""

    base_seconds: float = Field(default=2.0, gt=0, description="The first wait's upper bound.")
    factor: float = Field(default=2.0, ge=1, description="How the bound grows per attempt.")
    cap_seconds: float = Field(default=900.0, gt=0, description="The longest wait.")
    attempts_max: int = Field(default=12, ge=1, description="Attempts before it is a dead letter.")
    give_up_seconds: float = Field(
        default=259_200.0, gt=0, description="Age at which it is a dead letter (3 days)."
    )

    @model_validator(mode="after")
    def _bounds(self) -> RetrySettings:
        if self.cap_seconds < self.base_seconds:
            raise ValueError("cap_seconds is less than base_seconds")
        return self

    def policy(self) -> RetryPolicy:
        """As a policy."""
        return RetryPolicy(
            base=timedelta(seconds=self.base_seconds),
            factor=self.factor,
            cap=timedelta(seconds=self.cap_seconds),
            attempts_max=self.attempts_max,
            give_up_after=timedelta(seconds=self.give_up_seconds),
        )


class DestinationRetrySettings(RetrySettings):
    """The same for one destination, with other values for some causes."""

    causes: dict[CauseCode, RetrySettings] = Field(
        default_factory=dict,
        max_length=len(CauseCode),
        description="Other values after failures of these causes: destination-unavailable, "
        "outcome-unknown, destination-refused (a conflict).",
    )

    def policy(self) -> RetryPolicy:
        """As a policy."""
        own = super().policy()
        causes = {code: each.policy() for code, each in self.causes.items()}
        return RetryPolicy(
            base=own.base,
            factor=own.factor,
            cap=own.cap,
            attempts_max=own.attempts_max,
            give_up_after=own.give_up_after,
            causes=causes,
        )


class BreakerSettings(_Block):
    """When a destination that fails is left alone. All workers share its state."""

    failures: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="Failures in a row, whichever the patient, after which nothing is attempted "
        "for a while; 0: never.",
    )
    open_seconds: float = Field(
        default=15.0, gt=0, le=3600, description="For how long, the first time."
    )
    open_max_seconds: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="For how long at most: the time doubles with each attempt that fails after it.",
    )

    def policy(self) -> BreakerPolicy:
        """As a policy."""
        return BreakerPolicy(
            failures=self.failures,
            open_for=timedelta(seconds=self.open_seconds),
            open_max=timedelta(seconds=self.open_max_seconds),
        )


class _Destination(_Block):
    name: str = Field(pattern=NAME, description="Its name.")
    sources: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="Only messages of these sources go there; empty: of all.",
    )


class RecordDestinationSettings(_Destination):
    """The built-in shared record."""

    type: Literal["record"] = Field(default="record", description="The built-in shared record.")
    name: str = Field(default="record", pattern=NAME, description="Its name.")
    same_author: bool = Field(
        default=True,
        description="Whether a document of the CI-SIS profile may be replaced or deleted only by "
        "its author or the author's organisation, as PRT names the sender (901).",
    )


class _Elsewhere(_Destination):
    """What holds for every destination outside the database."""

    connections: int = Field(
        default=2,
        ge=1,
        le=32,
        description="Attempts at the same time, in each process that has worker threads. They "
        "have threads of their own: a server that hangs keeps nobody else waiting.",
    )
    per_second: float = Field(
        default=0.0,
        ge=0,
        le=10_000,
        description="The most attempts a second, of all processes together; 0: no limit.",
    )
    burst: int = Field(
        default=1, ge=1, le=1000, description="Attempts that may follow each other at once."
    )
    head_of_line: Literal["block", "pass"] = Field(
        default="block",
        description="What those behind do when a patient's delivery must be tried again: wait "
        "(block), or pass. An older content never takes a newer one's place in either case.",
    )
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings, description="When it is left alone."
    )
    retry: DestinationRetrySettings | None = Field(
        default=None, description="When a failed delivery is tried again; nothing: as in retry."
    )

    def treatment(self) -> DestinationPolicy:
        """How it is treated, besides retries."""
        return DestinationPolicy(
            breaker=self.breaker.policy(),
            per_second=self.per_second,
            burst=self.burst,
            passes=self.head_of_line == "pass",
        )


class FhirDestinationSettings(FhirServerSettings, _Elsewhere):
    """A FHIR R4 server elsewhere."""


class DicomDestinationSettings(StorageSettings, _Elsewhere):
    """A PACS elsewhere, to which the instances of studies are sent."""


ElsewhereSettings = FhirDestinationSettings | DicomDestinationSettings
"""The kinds of destinations outside the database."""


def _kind(given: object) -> str:
    """A destination without a type is the built-in record."""
    named = given.get("type") if isinstance(given, dict) else getattr(given, "type", None)
    return str(named or "record")


DestinationSettings = Annotated[
    Annotated[RecordDestinationSettings, Tag("record")]
    | Annotated[FhirDestinationSettings, Tag("fhir")]
    | Annotated[DicomDestinationSettings, Tag("dicom")],
    Discriminator(_kind),
]
