"""A plain message is told to intake exactly as one that was examined, and so is its answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7 import skeletons
from adapters.hl7.modes import SILENT
from adapters.hl7.reception import Arrival, Reception
from adapters.hl7.settings import MllpSourceSettings
from gateway.model import CauseCode, Disposition, Receipt
from gateway.ports import IntakeUnavailable

NOW = datetime(2026, 11, 22, 9, 30, 15, 123456, tzinfo=UTC)


class FixedClock:
    def now(self) -> datetime:
        return NOW


class SameControlId:
    def next(self) -> str:
        return "OURS1"


def reception(**more: Any) -> Reception:
    made = Reception(
        MllpSourceSettings(name="lab", type="mllp", listen="127.0.0.1:0", **more), FixedClock()
    )
    made._acknowledger._control_ids = SameControlId()  # type: ignore[assignment]
    return made


def examining(**more: Any) -> Reception:
    """One that knows no skeletons."""
    made = reception(**more)
    made._skeletons._usable = False
    return made


def told(arrival: Arrival) -> tuple[Any, ...]:
    return arrival.received, arrival.mode


def warm(made: Reception, message: bytes) -> Arrival:
    """What is told of a message whose header has been met before."""
    for _ in range(2):
        made.open(message, "198.51.100.7:4000")
    return made.open(message, "198.51.100.7:4000")


def is_plain(made: Reception, message: bytes) -> bool:
    warm(made, message)
    return made._skeletons.read(message) is not None


HEADER = r"MSH|^~\&|SGL|LABO|ECLUSE|CHU|20261122093000||ORU^R01^ORU_R01|{id}|P|2.5"
BODY = "\rPID|1||1234^^^CHU&2.999.1&ISO^PI||ESSAI^ANNE\rOBX|1|NM|718-7^Hb^LN||13.20|g/dL\r"


def oru(control_id: str = "A1", tail: str = "", body: str = BODY, codec: str = "ascii") -> bytes:
    return (HEADER.format(id=control_id) + tail + body).encode(codec)


PLAIN = {
    "as it comes": oru(),
    "no patient": oru(body="\rOBX|1|NM|718-7^Hb^LN||13.20|g/dL\r"),
    "two patients": oru(body=BODY + "PID|2||9^^^CHU^PI\r"),
    "short patient": oru(body="\rPID|1\r"),
    "several identifiers": oru(body="\rPID|1||1^^^A^PI~2^^^B&1.2.250.1&ISO^INS~~3||X\r"),
    "escaped identifier": oru(body="\rPID|1||1\\T\\2^^^A^PI||X\r"),
    "last line without end": oru(body="\rPID|1||1^^^A^PI"),
    "permission": oru(body=BODY + "ZFA|1||||||||IO\r"),
    "permission of two": oru(body=BODY + "PID|2\rZFA|1\r"),
    "accents in UTF-8": oru(tail="||||||UNICODE UTF-8", body=BODY + "NTE|1||été\r", codec="utf-8"),
    "accents in 8859-1": oru(tail="||||||8859/1", body=BODY + "NTE|1||été\r", codec="latin-1"),
    "undeclared, in the default set": oru(body=BODY + "NTE|1||été\r", codec="utf-8"),
    "enhanced": oru(tail="|||AL|NE"),
    "enhanced, silent": oru(tail="|||NE|NE"),
    "enhanced, error only": oru(tail="|||ER|AL"),
    "other delimiters": b"MSH#*~\\&#SGL#LABO#E#C#2026##ORU*R01#A1#P#2.3\rPID#1##7***A*PI\r",
    "before 2.2": b"MSH|^~\\&|SGL|LABO|E|C|2026||ORU^R01|A1|P|2.1\rPID|1||7^^^A^PI\r",
}
EXAMINED = {
    "line feeds": oru().replace(b"\r", b"\r\n"),
    "no control id": oru(""),
    "null control id": oru('""'),
    "long control id": oru("x" * 200),
    "control character in the control id": oru("a\tb"),
    "accent in the control id": oru("é", "||||||8859/1", codec="latin-1"),
    "wrong bytes": oru(tail="||||||UNICODE UTF-8", body=BODY + "NTE|1||été\r", codec="latin-1"),
    "unprintable in 8859-1": oru(tail="||||||8859/1", body=BODY + "NTE|\x85\r", codec="latin-1"),
    "NUL": oru(body=BODY + "NTE|\0\r"),
    "escape byte": oru(body=BODY + "NTE|\x1b$B\r"),
    "unknown set": oru(tail="||||||KLINGON", body=BODY + "NTE|é\r", codec="latin-1"),
    "two sets": oru(tail="||||||8859/1~ISO IR87"),
    "two messages": oru(body=BODY + "MSH|^~\\&|X\r"),
    "continued": oru(body=BODY + "DSC|P1\r"),
    "continues": oru(tail="||P1"),
    "a response": oru(body="\rMSA|AA|1" + BODY),
    "an acknowledgement": b"MSH|^~\\&|A|B|C|D|2026||ACK|A1|P|2.5\rMSA|AA|1\r",
    "unknown type": b"MSH|^~\\&|A|B|C|D|2026||QQQ^Q01|A1|P|2.5\rPID|1\r",
    "unknown version": b"MSH|^~\\&|A|B|C|D|2026||ORU^R01|A1|P|9.9\rPID|1\r",
    "no header": b"PID|1||7^^^A^PI\r",
    "header alone": oru(body=""),
    "blank before": b" " + oru(),
    "short header": b"MSH|^~\\&|A|B\r",
    "long header": oru(tail="|" * 1100),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_messages_are_told_as_if_examined(name: str) -> None:
    made = reception()
    assert is_plain(made, PLAIN[name])
    assert told(warm(made, PLAIN[name])) == told(warm(examining(), PLAIN[name]))


@pytest.mark.parametrize("name", EXAMINED)
def test_others_are_examined(name: str) -> None:
    made = reception()
    assert not is_plain(made, EXAMINED[name])
    assert told(warm(made, EXAMINED[name])) == told(warm(examining(), EXAMINED[name]))


@pytest.mark.parametrize("name", EXAMINED)
def test_a_known_header_lets_nothing_through(name: str) -> None:
    """The skeletons of the plain messages are known, and a faulty one has the same header."""
    made = reception()
    for message in PLAIN.values():
        warm(made, message)
    arrival = made.open(EXAMINED[name], "p")
    assert told(arrival) == told(examining().open(EXAMINED[name], "p"))


@pytest.mark.parametrize(
    "more",
    [
        {"charset_default": "8859/15"},
        {"charset_default": "8859/1", "charset_fallbacks": ("WINDOWS-1252",)},
        {"acknowledgement": "enhanced"},
        {"acknowledgement": "original"},
        {"duplicates": "refuse"},
        {"sequence_numbers": "on"},
        {"permission_segments": ("NTE",)},
        {"permission_segments": ("PID",)},
        {"local_types": ("QQQ",)},
        {"processing_ids": ("T",)},
        {"authorities": {"A": "1.2.3.4"}},
        {"zone": "America/Martinique"},
    ],
)
def test_the_sources_own_rules_hold(more: dict[str, Any]) -> None:
    made, slow = reception(**more), examining(**more)
    for message in (*PLAIN.values(), *EXAMINED.values(), oru(tail="|7"), oru(tail="|-1")):
        assert told(warm(made, message)) == told(warm(slow, message))


pieces = st.lists(
    st.sampled_from(
        [
            *(b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b"MSH|", b"MSA|", b"PID|", b"DSC|"),
            *(b"ZFA", b"\rPID|1||", b"7^^^A^PI", b"\xe9", b"\xc3\xa9", b"\x00", b"\x1b"),
            *(b'""', b"x", b"8859/1"),
        ]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=250, deadline=None)
@given(control=pieces, tail=pieces, body=pieces)
def test_any_message_is_told_as_if_examined(control: bytes, tail: bytes, body: bytes) -> None:
    head = b"MSH|^~\\&|S|L|E|C|2026|%s|ORU^R01|%s|P|2.5" % (b"", control)
    message = head + b"||||||8859/1" + tail + b"\r" + body
    assert told(warm(MADE, message)) == told(SLOW.open(message, "198.51.100.7:4000"))


MADE, SLOW = reception(), examining()


def test_what_is_refused_behind_the_door_is_answered_with_the_whole_header() -> None:
    made, slow = reception(), examining()
    message = oru("A9", "|||AL|AL|FRA|UNICODE UTF-8")
    fast = warm(made, message)
    for word in (
        IntakeUnavailable("no room"),
        Receipt(message_id=1, disposition=Disposition.REFUSED),
        Receipt(message_id=1, disposition=Disposition.ACCEPTED),
        Receipt(message_id=1, disposition=Disposition.DUPLICATE, answer=b"the first one"),
    ):
        assert made.answer(fast, word) == slow.answer(slow.open(message, "p"), word)
    assert fast.mode.accept
    assert fast.envelope.header is not None


def test_an_acknowledgement_is_never_plain_nor_answered() -> None:
    arrival = warm(reception(), EXAMINED["an acknowledgement"])
    assert arrival.mode is SILENT
    assert arrival.received.answer == b""
    refusal = arrival.received.refusal
    assert refusal is not None
    assert refusal.code is CauseCode.ACKNOWLEDGEMENT


def test_a_sender_that_never_repeats_itself_fills_no_memory() -> None:
    made = reception()
    for number in range(3 * skeletons.SKELETONS_MAX):
        made.open(oru(tail=f"|||||FRA|ASCII||{number}"), "p")
    known = made._skeletons
    assert len(known._known) + len(known._not_plain) <= skeletons.SKELETONS_MAX
    assert told(warm(made, oru())) == told(warm(examining(), oru()))


def test_nothing_of_a_patient_is_remembered() -> None:
    made = reception()
    warm(made, oru("SECRET-ID"))
    (key,) = made._skeletons._known
    assert b"SECRET-ID" not in key
    assert b"ESSAI" not in key
    assert b"20261122093000" not in key
