"""What toolkits of other descent do that DCMTK and pynetdicom do not (docs/dicom.md)."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from adapters.dicom.committing import Committing
from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.negotiation import Policy
from adapters.dicom.pdus import AssociateRequest, ProposedContext, Roles
from adapters.dicom.settings import DicomSourceSettings
from gateway.asked_commitments import JournalCommitments
from gateway.model import Again, Delivered
from tests.integration.dicom.objects import CT, EXPLICIT, IMPLICIT, STUDY, element
from tests.integration.dicom.peer import (
    ABORT,
    ASSOCIATE_AC,
    P_DATA,
    RELEASE_RP,
    Listening,
    associate_request,
    associated,
    command,
    connected,
    p_data,
)
from tests.integration.dicom.test_holdings import CHEST
from tests.integration.dicom.test_query_retrieve import Archive, archive  # noqa: F401
from tests.integration.dicom.test_studies import WELL_KNOWN, door

FIND = str(StudyRootQueryRetrieveInformationModelFind)
GET = str(StudyRootQueryRetrieveInformationModelGet)
RELEASE_RQ = struct.pack(">BxL4x", 5, 4)
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def identifier(level: str) -> bytes:
    return element(0x00080052, "CS", level) + element(0x0020000D, "UI", CHEST)


def said_after_release(running: Listening, sop_class: str, field: int, body: bytes) -> list[int]:
    """The kinds of PDU that come when a request is followed by the release at once."""
    with associated(running, sop_class, EXPLICIT) as peer:
        asked = p_data((1, 3, command(field, sop_class=sop_class)), (1, 2, body))
        peer.send(asked + RELEASE_RQ)
        kinds = []
        while kind := peer.pdu()[0]:
            kinds.append(kind)
    return kinds


def test_a_release_in_the_middle_of_a_query(archive: Archive) -> None:  # noqa: F811
    # dcmjs-dimse 0.3.3 takes the warning 0xFF01 for the last answer and releases: it is owed the
    # other answers all the same, and the release is answered and not taken for a fault.
    body = identifier("IMAGE")
    with_release = said_after_release(archive, FIND, 0x0020, body)
    # Three matches of a command and a data set each, the last response, the release.
    assert with_release == [P_DATA] * 7 + [RELEASE_RP]


def test_a_release_in_the_middle_of_a_retrieval(archive: Archive) -> None:  # noqa: F811
    # Nobody is left who could say that the objects have come.
    with connected(archive) as peer:
        peer.send(
            associate_request([(GET, EXPLICIT), (CT, EXPLICIT)], provides=(CT,), calling="PEER")
        )
        assert peer.pdu()[0] == ASSOCIATE_AC
        asked = command(0x0010, sop_class=GET)
        peer.send(p_data((1, 3, asked), (1, 2, identifier("STUDY"))) + RELEASE_RQ)
        assert peer.pdu()[0] == P_DATA
        assert peer.pdu()[0] == ABORT


def test_the_next_one_is_served(archive: Archive) -> None:  # noqa: F811
    before = archive.source.statistics().get("released", 0)
    said_after_release(archive, FIND, 0x0020, identifier("STUDY"))
    assert archive.source.statistics()["released"] == before + 1
    with associated(archive, FIND, EXPLICIT) as peer:
        asked = command(0x0020, sop_class=FIND)
        peer.send(p_data((1, 3, asked), (1, 2, identifier("STUDY"))))
        assert peer.status() == 0xFF00


def accepted(*offered: str, provides: bool) -> str:
    """The transfer syntax that is chosen of one context's."""
    settings = DicomSourceSettings(name="ct")
    syntaxes = {CT: [EXPLICIT, IMPLICIT, JPEG_2000]}
    policy = Policy.of(settings, syntaxes, frozenset({CT}))
    request = AssociateRequest(
        called="ECLUSE", calling="PEER", contexts=(ProposedContext(1, CT, offered),),
        roles={CT: Roles(user=True, provider=True)} if provides else {},
    )  # fmt: skip
    return policy.negotiate(request).contexts[1].transfer_syntax


def test_explicit_comes_before_implicit_for_objects_that_are_fetched() -> None:
    # dcmjs-dimse names implicit VR first in the one context of a class: what is kept in explicit
    # VR, as nearly all is, then has to be written anew, and private attributes lose their VR.
    assert accepted(IMPLICIT, EXPLICIT, provides=True) == EXPLICIT
    assert accepted(IMPLICIT, provides=True) == IMPLICIT
    # Otherwise the order is the requestor's own.
    assert accepted(JPEG_2000, IMPLICIT, EXPLICIT, provides=True) == JPEG_2000
    assert accepted(IMPLICIT, JPEG_2000, EXPLICIT, provides=True) == EXPLICIT
    assert accepted(JPEG_2000, IMPLICIT, EXPLICIT, provides=False) == EXPLICIT


@contextlib.contextmanager
def prompt_peer(failed: int, answers: list[int]) -> Iterator[int]:
    """A PACS that tells what it commits at once, on the association on which it was asked; its
    port. ``answers`` gets the statuses of the answers to that."""
    said: list[tuple[Any, Dataset]] = []

    def asked(event: Any) -> tuple[int, None]:
        told = Dataset()
        told.TransactionUID = event.action_information.TransactionUID
        items = list(event.action_information.ReferencedSOPSequence)
        for item in items[:failed]:
            item.FailureReason = 0x0112
        if failed:
            told.FailedSOPSequence = items[:failed]
        told.ReferencedSOPSequence = items[failed:]
        said.append((event.assoc, told))
        return 0, None

    def tell(association: Any, told: Dataset) -> None:
        where = (StorageCommitmentPushModel, WELL_KNOWN)
        answer, _ = association.send_n_event_report(told, 2 if failed else 1, *where)
        answers.append(int(answer.Status))

    def sent(event: Any) -> None:
        # Once the N-ACTION is answered, and not before.
        if type(event.message).__name__ == "N_ACTION_RSP":
            threading.Thread(target=tell, args=said.pop(), daemon=True).start()

    ae = AE(ae_title="PACS")
    ae.add_supported_context(CT, EXPLICIT)
    ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [
        (evt.EVT_C_STORE, lambda event: 0), (evt.EVT_N_ACTION, asked), (evt.EVT_DIMSE_SENT, sent),
    ]  # fmt: skip
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def test_a_commitment_that_is_told_on_the_same_association(tmp_path: Path) -> None:
    # A peer may try that (PS3.4 J.3.3.1.2, note 1), and dcmjs-dimse does: a result that was refused
    # there would have been awaited for an hour.
    answers: list[int] = []
    with door(tmp_path / "door", commitment="off") as ours:
        commitments = JournalCommitments(ours.journal)
        for failed, key in ((0, "all"), (1, "one fails")):
            with prompt_peer(failed, answers) as port:
                there = StorageSettings(
                    type="dicom", connect=f"127.0.0.1:{port}", ae_title="PACS", commitment=True
                )
                # For as long as it takes, so that a slow machine does not decide.
                committing = Committing(there, commitments, at_once_seconds=60)
                instances = [(CT, f"{STUDY}.1.{number}") for number in (1, 2)]
                outcome = committing.ask(key, 0, instances)
            if failed:
                assert isinstance(outcome, Again)
            else:
                assert outcome == Delivered(evidence="2 objects stored and committed")
    assert answers == [0, 0]
