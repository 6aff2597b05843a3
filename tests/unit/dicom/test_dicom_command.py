"""C-STORE's command sets, against pynetdicom's."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ as StoreMessage
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from adapters.dicom.command import (
    C_ECHO_RQ,
    C_STORE_RQ,
    CommandError,
    Status,
    read_command,
    response,
)
from adapters.dicom.pdus import data_pdus, values_of

CT = "1.2.840.10008.5.1.4.1.1.2"


def theirs() -> bytes:
    """A request as pynetdicom writes it."""
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.Priority = 2
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "2.999.1"
    primitive.DataSet = io.BytesIO(b"\x08\x00\x05\x00CS\x00\x00")
    message = StoreMessage()
    message.primitive_to_message(primitive)
    first = next(iter(message.encode_msg(1, 16_382)))
    return bytes(first.presentation_data_value_list[0][1][1:])


def test_a_request_of_another_implementation_is_read() -> None:
    found = read_command(theirs())
    assert (found.field, found.message_id, found.has_data_set) == (C_STORE_RQ, 7, True)
    assert (found.sop_class, found.sop_instance) == (CT, "2.999.1")


@pytest.mark.parametrize("status", [Status(0), Status(0xA700, "the disk is nearly full")])
@pytest.mark.parametrize("limit", [0, 64, 16_382])
def test_a_response_is_read_by_another_implementation(status: Status, limit: int) -> None:
    message = DIMSEMessage()
    whole = False
    written = response(read_command(theirs()), status)
    for pdu in data_pdus(3, written, is_command=True, pdu_bytes_max=limit):
        assert not limit or len(pdu) <= limit + 6
        ((context, control, fragment),) = values_of(memoryview(pdu)[6:])
        primitive = P_DATA()
        primitive.presentation_data_value_list.append([context, bytes([control, *fragment])])
        assert not whole
        whole = message.decode_msg(primitive)
    assert whole
    answer = message.message_to_primitive()
    assert isinstance(answer, C_STORE)
    assert answer.is_valid_response
    assert answer.Status == status.code
    assert answer.MessageIDBeingRespondedTo == 7
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CT, "2.999.1")
    assert (answer.ErrorComment or "") == status.comment


def test_a_command_without_a_data_set() -> None:
    echo = C_ECHO()
    echo.MessageID = 1
    from pynetdicom.dimse_messages import C_ECHO_RQ as EchoMessage

    message = EchoMessage()
    message.primitive_to_message(echo)
    raw = next(iter(message.encode_msg(1, 0))).presentation_data_value_list[0][1][1:]
    found = read_command(bytes(raw))
    assert (found.field, found.has_data_set) == (C_ECHO_RQ, False)


def field(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, tag, len(value)) + value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        theirs()[:-3],
        field(0x0100, b"\1\0"),
        field(0x0100, b"\1\0") + field(0x0110, b"\1\0") + field(0x0800, b"\0\0"),
        theirs().replace(CT.encode() + b"\0", b"\xe9" * (len(CT) + 1)),
        theirs()[:-8] + struct.pack("<L", 66) + b"1." * 33,
        b"\xff" * 64,
    ],
)
def test_what_is_no_command(raw: bytes) -> None:
    def instance() -> tuple[str, str]:
        found = read_command(raw)
        return found.sop_class, found.sop_instance

    with pytest.raises(CommandError):
        instance()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_or_refused(raw: bytes) -> None:
    try:
        read_command(raw)
    except CommandError:
        return
