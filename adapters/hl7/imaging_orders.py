"""Orders of imaging in HL7 v2 messages, as far as a modality's worklist needs them.

OMI O23 (v2.5.1 4.4.14) says in IPC what is to be made, when, by which device. ORM O01 says it as
IHE's scheduled workflow does (RAD-4): the accession number in OBR-18, the procedure's and the
step's number in OBR-19 and OBR-20, the modality in OBR-24, the study's UID in ZDS-1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from adapters.hl7.escapes import unescape
from adapters.hl7.message import Message

ORDERS_MAX = 500
"""Orders of one message; what comes behind them is left out."""

CANCELLING = frozenset({"CA", "CR", "DC", "DF", "DR", "OC", "OD", "RP", "RU"})
HOLDING = frozenset({"HD", "HR", "OH"})
"""Order control codes (table 0119): the order is cancelled, discontinued or replaced; held."""
_NO_ORDER = frozenset({"DE", "NA", "OE", "OR", "SN", "UA", "UC", "UD", "UF", "UH", "UM", "UN",
                       "UR", "UX"})  # fmt: skip
"""Control codes of answers and refusals: they say nothing of what is to be made."""

MODALITIES = frozenset(
    {
        *("AR", "BDUS", "BI", "BMD", "CR", "CT", "DX", "ECG", "EPS", "ES", "GM", "HD", "IO"),
        *("IVOCT", "IVUS", "KER", "LEN", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPT", "OPV"),
        *("OT", "PT", "PX", "RF", "RG", "SM", "TG", "US", "VA", "XA", "XC"),
    }
)
"""Modalities for which images are made (PS3.3 C.7.3.1.1.1). An ORM that names none of them in
OBR-24 is no order of imaging."""

_MOMENT = re.compile(r"([0-9]{8})([0-9]{2,6})?(?:\.[0-9]+)?(?:[+-][0-9]{4})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded element (CE, CWE): code, text and coding system."""

    code: str = ""
    text: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedPatient:
    """Whom an order is about. ``name`` and the physicians' names are as DICOM writes them:
    family, given, middle, prefix and suffix between carets (PS3.5 6.2.1)."""

    number: str = ""
    authority: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    allergies: str = ""
    location: str = ""
    admission: str = ""
    referring: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingOrder:
    """One step of one order. Dates are ``YYYYMMDD``, times ``HHMMSS`` or shorter, as the message
    has them, without their offset. What the message does not say is empty."""

    control: str
    status: str = ""
    placer: tuple[str, str] = ("", "")
    filler: tuple[str, str] = ("", "")
    """Numbers with their namespaces (ORC-2, OBR-2; ORC-3, OBR-3)."""
    patient: OrderedPatient = field(default_factory=OrderedPatient)
    accession: str = ""
    procedure_id: str = ""
    step_id: str = ""
    study_uid: str = ""
    modality: str = ""
    station_title: str = ""
    station_name: str = ""
    place: str = ""
    protocol: Code = field(default_factory=Code)
    procedure: Code = field(default_factory=Code)
    start: tuple[str, str] = ("", "")
    ordered: tuple[str, str] = ("", "")
    """When the order was made: ORC-9, or the message's own time."""
    priority: str = ""
    reason: str = ""
    performing: str = ""
    requesting: str = ""
    names_step: bool = True
    """Whether the message says which step it is about; a cancellation may speak of the order."""

    @property
    def cancelled(self) -> bool:
        """Whether it is not to be made (any more)."""
        return self.control in CANCELLING or self.status in {"CA", "DC", "RP"}

    @property
    def held(self) -> bool:
        """Whether it is not to be made for now."""
        return self.control in HOLDING or self.status == "HD"

    @property
    def completed(self) -> bool:
        """Whether its filler says that it is done (ORC-5, table 0038)."""
        return self.status == "CM"


def imaging_orders(message: Message) -> list[ImagingOrder]:
    """The steps of the orders of imaging in a message, in its order; none in another message.

    A cancellation is listed whether or not it names a device.
    """
    found: list[ImagingOrder] = []
    patient = _patient(message)
    (study,) = _first(message, "ZDS", (1, 1))
    header = message.positions("MSH")
    said = _moment(message.text(header[0], 7, 1)) if header else ("", "")
    for group in _groups(message):
        for order in _steps(_Segments(message, group), patient, said):
            if len(found) >= ORDERS_MAX:
                return found
            found.append(replace(order, study_uid=order.study_uid or study))
    return found


class _Segments:
    """The segments of one order; values are read from the first of a name."""

    def __init__(self, message: Message, indexes: list[int]) -> None:
        self.message = message
        self._by_name: dict[str, list[int]] = {}
        for index in indexes:
            self._by_name.setdefault(message.name(index), []).append(index)

    def all(self, name: str) -> list[int]:
        """The indexes of the segments of a name."""
        return self._by_name.get(name, [])

    def of(self, name: str, number: int, part: int = 0) -> str:
        """A value, empty when it is not there."""
        indexes = self.all(name)
        return _value(self.message, indexes[0], number, part) if indexes else ""

    def pair(self, name: str, number: int) -> tuple[str, str]:
        """A number and its namespace (EI)."""
        namespace = self.of(name, number, 3) or self.of(name, number, 2)
        return self.of(name, number, 1), namespace


def _groups(message: Message) -> Iterator[list[int]]:
    """Segments by order: each begins with ORC, or with an OBR that has none before it."""
    group: list[int] = []
    for index in range(len(message.segments)):
        name = message.name(index)
        opens = name == "ORC" or (
            name == "OBR" and (not group or any(message.name(i) == "OBR" for i in group))
        )
        if opens:
            if group:
                yield group
            group = [index]
        elif group:
            group.append(index)
    if group:
        yield group


def _steps(
    segments: _Segments, patient: OrderedPatient, said: tuple[str, str]
) -> Iterator[ImagingOrder]:
    control = segments.of("ORC", 1)
    if control in _NO_ORDER:
        return
    ordered = _moment(segments.of("ORC", 9, 1))
    whole = ImagingOrder(
        control=control,
        status=segments.of("ORC", 5),
        placer=_present(segments.pair("ORC", 2), segments.pair("OBR", 2)),
        filler=_present(segments.pair("ORC", 3), segments.pair("OBR", 3)),
        patient=patient,
        accession=segments.of("OBR", 18, 1),
        procedure_id=segments.of("OBR", 19, 1),
        step_id=segments.of("OBR", 20, 1),
        modality=segments.of("OBR", 24, 1),
        procedure=_code(segments, "OBR", 4),
        start=_present(
            *(_moment(segments.of(name, number, part)) for name, number, part in (
                ("TQ1", 7, 1), ("ORC", 7, 4), ("OBR", 36, 1), ("OBR", 27, 4), ("OBR", 6, 1),
            ))
        ),
        ordered=ordered if ordered[0] else said,
        priority=segments.of("TQ1", 9, 1) or segments.of("ORC", 7, 6) or segments.of("OBR", 27, 6)
        or segments.of("OBR", 5, 1),
        reason=segments.of("OBR", 31, 2) or segments.of("OBR", 31, 1),
        performing=_person(segments, "OBR", 34),
        requesting=_person(segments, "ORC", 12) or _person(segments, "OBR", 16),
    )  # fmt: skip
    devices = segments.all("IPC")
    for index in devices:
        yield _device(segments.message, index, whole)
    if devices:
        return
    names = bool(whole.modality in MODALITIES)
    if names or whole.cancelled or whole.held or whole.completed:
        yield replace(whole, names_step=bool(names and whole.step_id))


def _device(message: Message, index: int, whole: ImagingOrder) -> ImagingOrder:
    """IPC (v2.5.1 4.5.6): the step of one device."""

    def of(number: int, part: int = 1) -> str:
        return _value(message, index, number, part)

    return replace(
        whole,
        accession=of(1) or whole.accession,
        procedure_id=of(2) or whole.procedure_id,
        study_uid=of(3),
        step_id=of(4) or whole.step_id,
        modality=of(5) or whole.modality,
        protocol=Code(code=of(6), text=of(6, 2), system=of(6, 3)),
        station_name=of(7, 2) or of(7),
        place=of(8, 2) or of(8),
        station_title=of(9),
    )


def _patient(message: Message) -> OrderedPatient:
    positions = message.positions("PID")
    if not positions:
        return OrderedPatient()
    pid = _Segments(message, [positions[0]])
    visits = message.positions("PV1")
    visit = _Segments(message, [visits[0]] if visits else [])
    allergies = [
        _value(message, index, 3, 2) or _value(message, index, 3, 1)
        for index in message.positions("AL1")
    ]
    number, authority = _identifier(message, positions[0])
    return OrderedPatient(
        number=number or pid.of("PID", 2, 1),
        authority=authority,
        name=_name([pid.of("PID", 5, part) for part in range(1, 7)]),
        birth_date=pid.of("PID", 7, 1)[:8],
        sex=pid.of("PID", 8),
        allergies=", ".join(each for each in allergies if each),
        location=" ".join(filter(None, (visit.of("PV1", 3, part) for part in (1, 2, 3)))),
        admission=visit.of("PV1", 19, 1),
        referring=_person(visit, "PV1", 8),
    )


def _identifier(message: Message, index: int) -> tuple[str, str]:
    """The patient's number in the institution (PID-3 of type PI, table 0203), else the first one,
    with its authority's namespace."""
    delimiters = message.delimiters
    found: list[tuple[bool, str, str]] = []
    for text in message.repetitions(index, 3):
        parts = [*text.split(delimiters.component), "", "", "", "", ""]
        namespace = parts[3].split(delimiters.subcomponent or "\0")[0]
        plain = [
            unescape(each.strip(), delimiters, message.charset.codec)
            for each in (parts[0], namespace)
        ]
        if plain[0] and plain[0] != '""':
            found.append((parts[4].strip() == "PI", plain[0], plain[1]))
    chosen = next((each for each in found if each[0]), found[0] if found else (False, "", ""))
    return chosen[1], chosen[2]


def _person(segments: _Segments, name: str, number: int) -> str:
    """XCN: the name behind the number."""
    return _name([segments.of(name, number, part) for part in range(2, 8)])


def _name(parts: list[str]) -> str:
    """Family, given, middle, suffix, prefix (XPN) as family, given, middle, prefix, suffix."""
    family, given, middle, suffix, prefix, _ = parts
    # A family name's first part is the name itself (FN.1).
    ordered = [each.split("&")[0] for each in (family, given, middle, prefix, suffix)]
    return "^".join(each.replace("^", " ").replace("=", " ") for each in ordered).rstrip("^")


def _code(segments: _Segments, name: str, number: int) -> Code:
    return Code(
        code=segments.of(name, number, 1),
        text=segments.of(name, number, 2),
        system=segments.of(name, number, 3),
    )


def _present(*found: tuple[str, str]) -> tuple[str, str]:
    return next((each for each in found if each[0]), ("", ""))


def _moment(text: str) -> tuple[str, str]:
    """Date and time of a TS or DTM; nothing of one without a day."""
    found = _MOMENT.match(text)
    if found is None:
        return "", ""
    digits = found[2] or ""
    return found[1], digits[: len(digits) - len(digits) % 2]


def _first(message: Message, name: str, *wanted: tuple[int, int]) -> list[str]:
    positions = message.positions(name)
    if not positions:
        return [""] * len(wanted)
    return [_value(message, positions[0], *each) for each in wanted]


def _value(message: Message, index: int, number: int, part: int = 0) -> str:
    """A value with its escapes resolved; the null value ``""`` is none."""
    text = message.text(index, number, part).strip()
    if text == '""':
        return ""
    return unescape(text, message.delimiters, message.charset.codec)
