"""What the configuration says of how long things are kept."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.journal.retention import Ending, Part, Policy

DAYS_MIN = 7
"""Senders that hear nothing send again for some days: until then a repetition must be known."""


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeepSettings(_Block):
    """For how many days the parts of messages that ended in one way are kept."""

    bytes_days: int | None = Field(
        default=None,
        ge=DAYS_MIN,
        le=36_500,
        description="The exact bytes, and the answer that was given. Without them a message "
        "cannot be shown, reprocessed or sent again. Nothing: for ever.",
    )
    entries_days: int | None = Field(
        default=None,
        ge=DAYS_MIN,
        le=36_500,
        description="The working copy of what the mapping made (not what stands in the record). "
        "It can be made again from the bytes. Nothing: for ever.",
    )
    metadata_days: int | None = Field(
        default=None,
        ge=DAYS_MIN,
        le=36_500,
        description="Everything else of a message: who sent it when, what became of it, its place "
        "in the chain of hashes (a seal stays). At least as long as its bytes. Nothing: for ever.",
    )

    @model_validator(mode="after")
    def _metadata_outlast_bytes(self) -> KeepSettings:
        for name in ("bytes_days", "entries_days"):
            days = getattr(self, name)
            if self.metadata_days is not None and (days is None or days > self.metadata_days):
                raise ValueError(
                    f"metadata_days is {self.metadata_days}, and {name} is longer: "
                    "nothing of a message outlasts its metadata"
                )
        return self


class RetentionSettings(_Block):
    """How long what is resolved is kept. By default for ever: what may be deleted, and when, is
    the decision of whoever answers for the data. What is held, dead, unmapped or on its way
    never expires."""

    delivered: KeepSettings = Field(
        default_factory=KeepSettings, description="Messages that every destination has."
    )
    refused: KeepSettings = Field(
        default_factory=KeepSettings,
        description="Messages that were refused, by the protocol or by a patient's permission.",
    )
    discarded: KeepSettings = Field(
        default_factory=KeepSettings,
        description="Messages that a person discarded, and originals of repaired copies.",
    )
    daily_at: str = Field(
        default="02:30",
        pattern=r"^($|([01][0-9]|2[0-3]):[0-5][0-9]$)",
        description="The time of day, by this machine's clock, from which a gateway purges what "
        "is past its time, once a day for all processes. Empty: only ecluse purge does.",
    )

    def policy(self) -> Policy:
        """As a policy."""
        kept = {Ending(name): getattr(self, name) for name in ("delivered", "refused", "discarded")}
        names = {
            Part.CONTENT: "bytes_days",
            Part.NORMALISED: "entries_days",
            Part.MESSAGE: "metadata_days",
        }
        return Policy(
            {
                part: {e: days for e, of in kept.items() if (days := getattr(of, name)) is not None}
                for part, name in names.items()
            }
        )
