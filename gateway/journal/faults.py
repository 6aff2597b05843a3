"""What the journal raises. No message of these ever holds a value of a patient."""

from __future__ import annotations


class JournalUnavailable(Exception):
    """Nothing of the transaction was kept: disk full, database away, queue full.

    The same call may succeed later. A sender must get no positive answer.
    """


class NoJournal(JournalUnavailable):
    """There is no journal to be read yet: no gateway has run on this state folder."""


class JournalInUse(Exception):
    """Another process writes this SQLite journal; ``pid`` says which (0: unknown)."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"the journal is written by process {pid or 'unknown'}")
        self.pid = pid


class JournalFault(Exception):
    """The database refused a statement for what it says (a constraint, a type).

    A defect of the program, never a state of the machine. The database's own
    words are left out because they may quote values.
    """


class LeaseLost(Exception):
    """The lane has gone to another worker; whatever was done must be given up."""

    def __init__(self, lane: str) -> None:
        super().__init__("the lease of the lane was lost")
        self.lane = lane


class IdentityConflict(Exception):
    """Identifiers that belong to different patients; nobody may guess which is right."""

    def __init__(self, patient_ids: tuple[str, ...]) -> None:
        super().__init__(f"the identifiers name {len(patient_ids)} different patients")
        self.patient_ids = patient_ids
