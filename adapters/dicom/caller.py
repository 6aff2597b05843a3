"""The association from which a request comes, as the services see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapters.dicom.negotiation import AcceptedContext
from adapters.dicom.sender import Outgoing


class Caller(Protocol):
    """Belongs to one thread, that of its association."""

    calling: str
    called: str
    peer: str

    @property
    def stopping(self) -> bool:
        """Whether the source stops: long requests are ended."""
        ...

    def count(self, name: str) -> None:
        """Count something that happened."""
        ...

    def answer(self, context: AcceptedContext, command: bytes, data_set: bytes = b"") -> None:
        """Send a response. Raises OSError."""
        ...

    def cancelled(self, message_id: int) -> bool:
        """Whether the caller has cancelled a request that is being answered (C-CANCEL). Does not
        wait. Raises OSError, ProtocolError, CommandError."""
        ...

    def storing(self, sop_class: str) -> Sequence[AcceptedContext]:
        """The contexts in which the caller takes objects of a class on this association (it has
        the role of the SCP, PS3.7 D.3.3.4)."""
        ...

    def store(self, context: AcceptedContext, outgoing: Outgoing) -> int:
        """C-STORE of one object to the caller, on this association (C-GET); its status. Raises
        OSError, ProtocolError, CommandError."""
        ...
