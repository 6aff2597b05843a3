"""What the record refuses, and why."""

from __future__ import annotations


class RecordFault(Exception):
    """The record did not do what was asked. No message holds a value of a patient."""


class EntryRefused(RecordFault):
    """What was given is no entry: no type, no id, too large, or twice in one message."""


class VersionRefused(RecordFault):
    """Another document has the id, or the version in its set, of the one that was given."""


class AuthorRefused(RecordFault):
    """A document may be replaced or deleted by its author or the author's organisation only."""


class BytesMissing(RecordFault):
    """A document's bytes are not in the blob store, where they must be first."""


class MergeRefused(RecordFault):
    """Two patients' records cannot be made one without mixing in a third's."""


class SearchRefused(RecordFault):
    """A search that cannot be answered as it was asked.

    ``parameter`` is the name of the parameter at fault; ``known`` whether it exists.
    """

    def __init__(self, parameter: str, reason: str, *, known: bool = True) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter
        self.reason = reason
        self.known = known
