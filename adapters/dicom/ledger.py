"""What a DICOM source asks of the house beside intake: what it holds, and what it was told of
studies. Implemented by ``gateway.studies``; every method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStep:
    """A performed procedure step (PS3.3 B.17) as far as it tells when a study is complete.

    ``status`` is IN PROGRESS, COMPLETED or DISCONTINUED; ``instances`` the UIDs that it lists;
    ``body`` the data set that came last; ``scheduled`` the IDs of the scheduled steps that it
    performs, known when it begins.
    """

    uid: str
    study: str
    status: str
    instances: tuple[str, ...]
    body: bytes
    scheduled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRequest:
    """A request for storage commitment: ``instances`` are SOP class and instance UIDs."""

    transaction_uid: str
    peer: str
    own_title: str
    instances: tuple[tuple[str, str], ...]
    attempts: int = 0
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """An instance that came. ``delivered``: every destination of its study has it; ``kept``: its
    bytes are still here, and no purge took them."""

    sop_class: str
    delivered: bool
    kept: bool


class LedgerUnavailable(Exception):
    """The journal cannot be asked, or keeps nothing, now."""


class CommitmentResults(Protocol):
    """Where results of our own requests for storage commitment go."""

    def commitment_answered(
        self,
        transaction_uid: str,
        peer: str,
        failed: Sequence[tuple[str, str, str]],
        *,
        committed: Collection[str] | None,
    ) -> bool:
        """A peer tells what became of a request that we made of it; ``failed`` are SOP class,
        instance and failure reason (``0x0112``), ``committed`` SOP Instance UIDs, None for all.
        What is in neither is not committed. False when there is no such request."""
        ...


class StudyLedger(CommitmentResults, Protocol):
    """The studies of one source. Every method raises LedgerUnavailable."""

    def create_step(self, step: PerformedStep) -> bool:
        """Keep a new step; false when its UID is known already."""
        ...

    def step(self, uid: str) -> PerformedStep | None:
        """A step that is kept."""
        ...

    def change_step(self, step: PerformedStep) -> None:
        """Replace a step; one that has ended may make its study complete."""
        ...

    def ask_commitment(self, request: CommitmentRequest) -> bool:
        """Keep a request; false when its transaction UID is known already."""
        ...

    def due_commitments(self) -> Sequence[CommitmentRequest]:
        """Requests whose answer should be tried now."""
        ...

    def commitment_told(self, request: CommitmentRequest) -> None:
        """Its sender has the answer."""
        ...

    def commitment_later(self, request: CommitmentRequest, *, attempted: bool) -> None:
        """Its answer cannot be given yet, or its sender could not be reached (``attempted``)."""
        ...

    def held(self, instances: Sequence[str]) -> Mapping[str, Held]:
        """Those of the instances that came and were not taken back."""
        ...

    def uncounted(self) -> Sequence[str]:
        """Studies that have been quiet for half of their time and of which nobody has said
        how many instances they have, since the last of them came."""
        ...

    def counted(self, study: str, instances: Sequence[str]) -> None:
        """The source's own list of a study's instances; none when it could not be had."""
        ...

    def sent_together(self, study: str, reference: str, instances: Sequence[str]) -> None:
        """One request, which ``reference`` names, brought these instances of a study, and its
        sender says with it that they are all."""
        ...

    def arrived(self, study: str, instance: str) -> None:
        """An instance was kept. Cheap, unless it is the last that was missing."""
        ...

    def arriving(self, study: str) -> None:
        """An instance that seems to be of the study is still on its way in."""
        ...
