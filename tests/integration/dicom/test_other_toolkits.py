"""What toolkits of other descent do that DCMTK and pynetdicom do not (docs/dicom.md)."""

from __future__ import annotations

import struct

from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from adapters.dicom.negotiation import Policy
from adapters.dicom.pdus import AssociateRequest, ProposedContext, Roles
from adapters.dicom.settings import DicomSourceSettings
from tests.integration.dicom.objects import CT, EXPLICIT, IMPLICIT, element
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
