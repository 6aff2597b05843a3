"""A storage SCP for the tests (pynetdicom's) that keeps what it gets, and can be told to fail."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt

from adapters.dicom.committing import Commitments, Committing
from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.forwarding import DicomDestination, Original
from adapters.dicom.part10 import read_file_meta
from adapters.dicom.rewriting import Change, Rewriter
from gateway.model import Delivery, Payload
from tests.integration.dicom.objects import CT, EXPLICIT, IMPLICIT


@dataclass
class StoringPeer:
    """What came, and what the next objects are answered."""

    port: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    syntaxes: dict[str, str] = field(default_factory=dict)
    arrivals: list[str] = field(default_factory=list)
    originators: set[tuple[str, int]] = field(default_factory=set)
    associations: int = 0
    statuses: list[int | Callable[[Any], int]] = field(default_factory=list)
    """Popped for each object; 0 when there are none left."""
    server: Any = None

    def forget(self) -> None:
        """As it was at the start."""
        self.kept.clear()
        self.syntaxes.clear()
        self.arrivals.clear()
        self.statuses.clear()
        self.associations = 0
        self.originators.clear()

    def stored(self, event: Any) -> int:
        request = event.request
        uid = str(request.AffectedSOPInstanceUID)
        self.arrivals.append(uid)
        if request.MoveOriginatorMessageID is not None:
            title = str(request.MoveOriginatorApplicationEntityTitle).strip()
            self.originators.add((title, int(request.MoveOriginatorMessageID)))
        answer = self.statuses.pop(0) if self.statuses else 0
        status = answer(event) if callable(answer) else answer
        if status in (0, 0xB000):
            self.kept[uid] = request.DataSet.getvalue()
            self.syntaxes[uid] = str(event.context.transfer_syntax)
        return status


def aborting(event: Any) -> int:
    """End the association in the middle of a request."""
    event.assoc.abort()
    return 0xC000


@contextlib.contextmanager
def storing_peer(
    contexts: dict[str, Sequence[str]] | None = None, *, port: int = 0, require: str = "",
    associations_max: int = 10,
) -> Iterator[StoringPeer]:  # fmt: skip
    """A peer that takes the classes in the syntaxes given, on the loopback."""
    peer = StoringPeer()
    ae = AE(ae_title="PACS")
    ae.maximum_associations = associations_max
    ae.require_called_aet = bool(require)
    for sop_class, syntaxes in (contexts or {CT: [EXPLICIT, IMPLICIT]}).items():
        ae.add_supported_context(sop_class, list(syntaxes))

    def accepted(event: Any) -> None:
        peer.associations += 1

    handlers = [(evt.EVT_C_STORE, peer.stored), (evt.EVT_ACCEPTED, accepted)]
    peer.server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    peer.port = peer.server.socket.getsockname()[1]
    try:
        yield peer
    finally:
        peer.server.shutdown()


class Files:
    """Objects in files and in memory, as the journal would give them."""

    def __init__(self, objects: Sequence[Path | bytes]) -> None:
        self._payloads = [
            Payload.from_file(each) if isinstance(each, Path) else Payload.from_bytes(each)
            for each in objects
        ]

    def instances(self, message_id: int) -> Sequence[Original]:
        found = []
        for number, payload in enumerate(self._payloads):
            with payload.open() as stream:
                meta = read_file_meta(stream, payload.size)
            found.append(Original(number, meta.sop_class, meta.sop_instance))
        return found

    def payload(self, number: int) -> Payload:
        return self._payloads[number]


def delivery(key: str = "key-1", begun: int = 0) -> Delivery:
    return Delivery(
        id=1, message_id=1, lane="p@pacs", patient_id="p", destination="pacs", sequence=1,
        idempotency_key=key, attempts=0, entries=(), mapping="", begun=begun,
    )  # fmt: skip


@contextlib.contextmanager
def destination(
    port: int,
    objects: Sequence[Path | bytes],
    changes: Sequence[Change] = (),
    seconds: Callable[[], float] = time.monotonic,
    commitments: Commitments | None = None,
    **settings: Any,
) -> Iterator[DicomDestination]:
    values = {
        "type": "dicom", "connect": f"127.0.0.1:{port}", "ae_title": "PACS",
        "timeout_seconds": 30.0, **settings,
    }  # fmt: skip
    configured = StorageSettings.model_validate(values)
    rewriter = Rewriter(changes, configured.rewritten_bytes_max)
    committing = None
    if commitments is not None:
        committing = Committing(configured, commitments, at_once_seconds=0.1)
    made = DicomDestination(
        "pacs", configured, Files(objects), rewriter, committing=committing, seconds=seconds
    )
    try:
        yield made
    finally:
        made.close()
