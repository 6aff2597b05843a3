"""What a source requires of its messages at the door: a profile, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.hl7.conformance import Finding
from adapters.hl7.continuation import joined_alone
from adapters.hl7.message import Message
from adapters.hl7.scopes import MessageScope
from adapters.hl7.site_profiles import CompiledProfile, load_profile
from gateway.model import Cause, CauseCode
from gateway.ports import Unreadable

NAMED_MAX = 10
"""Findings that are named with a message that is only flagged."""

Mode = Literal["refuse", "flag"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """``refusal`` when the message is not taken; ``attributes`` to keep with it when it is."""

    refusal: Cause | None = None
    attributes: Mapping[str, str] | None = None


class Requirements:
    """A source's profile. Holds no state of a message; any thread."""

    def __init__(self, profile: CompiledProfile, mode: Mode) -> None:
        self._profile = profile
        self._mode = mode

    @classmethod
    def of(cls, path: Path | None, mode: Mode) -> Requirements | None:
        """Those of the settings; None without a profile. Raises ProfileError."""
        return None if path is None else cls(load_profile(path), mode)

    def judge(self, payload: bytes, charset: str) -> Judgement:
        """Hold a message that the protocol takes against the profile.

        ``charset`` is the name of the character set that was decided. Never raises
        for what a message may hold; no value of the message is told.
        """
        try:
            scope = MessageScope(Message.read(joined_alone(payload), encoding=charset))
        except Unreadable as fault:
            cause = Cause(
                code=CauseCode.UNREADABLE,
                detail=str(fault),
                location=fault.location,
                protocol_code="102",
            )
            return Judgement(cause)
        findings = list(self._profile.check_all(scope))
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors and self._mode == "refuse":
            return Judgement(self._refusal(errors))
        if not findings:
            return Judgement()
        told = "; ".join(f"{each.location} {each.code}" for each in findings[:NAMED_MAX])
        more = f"; {len(findings) - NAMED_MAX} more" if len(findings) > NAMED_MAX else ""
        return Judgement(attributes={"profile": f"{self._name}: {told}{more}"})

    @property
    def _name(self) -> str:
        return self._profile.profile.profile

    def _refusal(self, errors: list[Finding]) -> Cause:
        first = errors[0]
        others = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        return Cause(
            code=CauseCode.PROFILE_VIOLATED,
            detail=f"{first.text[:1].upper()}{first.text[1:]} (profile {self._name}{others})",
            location=first.location,
            protocol_code=first.code,
        )
