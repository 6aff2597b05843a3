"""A message held against the grammar of its version: what a sender's interface team is told.

Structure (segments and groups required, repeated, in order), fields (required,
cardinality, withdrawn or unknown), data types, lengths of primitive types, tables.
The gateway itself takes what breaks these rules (HL7 v2.9.1 chapter 2, section
2.5.2); they are checked where somebody asks: ``ecluse hl7 check``, or a profile.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from adapters.hl7.binding import FOLLOWERS, Node
from adapters.hl7.datatypes import PRIMITIVES
from adapters.hl7.grammar import (
    VARIES,
    VERSIONS,
    FieldDefinition,
    Grammar,
    GroupDefinition,
    Item,
    component_definitions,
    grammar,
    known_types,
)
from adapters.hl7.header import NULL
from adapters.hl7.message import Message
from adapters.hl7.scopes import MessageScope
from adapters.hl7.structure_events import structure_candidates

FINDINGS_MAX = 1_000
"""Findings of one message; what comes after is not looked for."""
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
_DELIMITER_FIELDS = 2
_TYPES_TABLE = "0125"
"""Its list of data types lacks some that the same version defines (CWE in 2.5.1)."""
_CODING_SYSTEMS_TABLE = "0396"
"""HL7 adds coding systems between versions; a message may use those of any day."""
_GAP = re.compile(r"\.\.\.|<\w+>|< \w+ >|and higher")
_PLACEHOLDER = re.compile(r"([A-Z0-9]+)(?:n{3,}|z{3,}|x{3,})s*")

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    ``location`` is a path (``PID-3(2).4.1``) or a segment's name; ``code`` of HL7
    table 0357; ``text`` a sentence without any value of the message; ``rule`` says
    who wants it so: ``HL7 2.5``, or ``file:line:column`` of a profile. ``written`` is
    what stands there: patient data, for the eyes of the person who asked only.
    """

    location: str
    code: str
    text: str
    severity: Severity = "error"
    rule: str = ""
    written: str = ""


@dataclass(frozen=True, slots=True)
class Allowances:
    """What a site takes beyond the grammar: more segments, more codes of HL7's tables."""

    segments: frozenset[str] = frozenset()
    tables: Mapping[str, frozenset[str]] | None = None

    def codes(self, table: str) -> frozenset[str]:
        """More codes of a table."""
        return (self.tables or {}).get(table, frozenset())


NOTHING_MORE = Allowances()


def check(scope: MessageScope, allowances: Allowances = NOTHING_MORE) -> Iterator[Finding]:
    """Everything in which a message breaks the grammar of its version, in no fixed order."""
    found = itertools.chain(
        _version(scope.message), _structure(scope, allowances), _fields(scope.message, allowances)
    )
    return itertools.islice(found, FINDINGS_MAX)


def _version(message: Message) -> Iterator[Finding]:
    if message.version not in VERSIONS:
        text = f"{message.grammar_version} is the nearest version that is known, and is used"
        yield Finding("MSH-12", "203", text, "warning", written=message.version)


# --- structure ----------------------------------------------------------------------


def _structure(scope: MessageScope, allowances: Allowances) -> Iterator[Finding]:
    message, name = scope.message, scope.structure_name
    rule = f"HL7 {message.grammar_version}"
    message_type, event, declared = scope.structure
    known = grammar(message.grammar_version)
    if not name:
        types, _ = known_types(known.version)
        wrong = ("MSH-9.2", "201") if message_type in types else ("MSH-9.1", "200")
        yield Finding(*wrong, "no structure is known, so segments are not checked", rule=rule)
        return
    right = [each for each in structure_candidates(message_type, event) if each in known.structures]
    if declared and right and declared not in right:
        text = f"table 0354 gives this event {right[0]}; {name} is used"
        yield Finding("MSH-9.3", "103", text, "warning", rule, declared)
    binding = scope.binding
    known_segments = binding.root.definition.contains
    for index, segment in enumerate(binding.names):
        if not _SEGMENT_NAME.match(segment):
            text = "the line is no segment: a line end stands inside a field"
            yield Finding(f"line {index + 1}", "100", text, rule=rule)
        elif segment in known_segments or segment[0] == "Z" or segment in allowances.segments:
            follows = segment in FOLLOWERS and segment not in allowances.segments
            if follows and segment not in binding.node[index].definition.places:
                after = binding.names[binding.owner[index]]
                text = f"{segment} is not foreseen after {after}"
                yield Finding(segment_place(message, index), "100", text, rule=rule)
        else:
            yield Finding(
                segment_place(message, index), "100", f"{segment} is not part of {name}", rule=rule
            )
    yield from _group(message, binding.root, binding.names, name, rule)


def segment_place(message: Message, index: int) -> str:
    """``OBX(2)``: a segment's name, and which of several it is."""
    name = message.name(index)
    same = message.positions(name)
    return f"{name}({bisect(same, index)})" if len(same) > 1 else name


def _first(node: Node) -> int:
    """The index of a group's first segment."""
    inside = [*node.segments[:1], *(_first(child) for child in node.children[:1])]
    return min(inside, default=-1)


def _group(
    message: Message, node: Node, names: Sequence[str], name: str, rule: str
) -> Iterator[Finding]:
    """One occurrence of a group: what lacks, what is too much, what is out of order."""
    definition = node.definition
    children: dict[int, list[Node]] = {}
    for child in node.children:
        children.setdefault(child.position, []).append(child)
    own = node.own(names)
    for item_name, (least, most, item, positions) in _wanted(definition).items():
        if item.group is None:
            indexes = own.get(item_name, [])
        else:
            indexes = [_first(child) for at in positions for child in children.get(at, ())]
        if len(indexes) < least and not definition.choice:
            what = item_name if item.group is None else f"the group {item_name}"
            text = f"{what} is required in {name}" + _which(message, node)
            yield Finding(_opening(item), "100", text, rule=rule)
        if 0 <= most < len(indexes):
            text = f"{item_name} occurs {len(indexes)} times in {name}, at most {most} are allowed"
            yield Finding(segment_place(message, indexes[most]), "198", text, rule=rule)
    if definition.choice and definition.items and not (node.segments or node.children):
        yield Finding(_opening(definition.items[0]), "100", f"{name} is empty", rule=rule)
    if not definition.choice:
        yield from _order(message, node, names, name, rule)
    for child in node.children:
        yield from _group(message, child, names, child.definition.name, rule)


def _wanted(
    definition: GroupDefinition,
) -> dict[str, tuple[int, int, Item, tuple[int, ...]]]:
    """For each segment and group: how many at least and at most, over all its places."""
    wanted: dict[str, tuple[int, int, Item, tuple[int, ...]]] = {}
    for position, item in enumerate(definition.items):
        least, most, first, positions = wanted.get(item.name, (0, 0, item, ()))
        unlimited = most < 0 or item.most < 0
        wanted[item.name] = (
            least + item.least, -1 if unlimited else most + item.most, first, (*positions, position)
        )  # fmt: skip
    return wanted


def _which(message: Message, node: Node) -> str:
    first = _first(node)
    return (
        f", here at {segment_place(message, first)}"
        if node.parent is not None and first >= 0
        else ""
    )


def _opening(item: Item) -> str:
    """The segment that a missing item would begin with."""
    while item.group is not None:
        item = next((each for each in item.group.items if each.least), item.group.items[0])
    return item.name


def _order(
    message: Message, node: Node, names: Sequence[str], name: str, rule: str
) -> Iterator[Finding]:
    """Members that stand before what they should follow; each is told once."""
    members = [(index, node.definition.places.get(names[index], ())) for index in node.segments]
    members += [(_first(child), (child.position,)) for child in node.children]
    cursor = 0
    for index, positions in sorted(members):
        if not positions:
            continue
        later = [position for position in positions if position >= cursor]
        if later:
            cursor = later[0]
        else:
            before = node.definition.items[cursor].name
            text = f"{names[index]} stands after {before}, in {name} it comes before"
            yield Finding(segment_place(message, index), "100", text, rule=rule)


# --- fields -------------------------------------------------------------------------


def _fields(message: Message, allowances: Allowances) -> Iterator[Finding]:
    for index in range(len(message.segments)):
        name = message.name(index)
        if not name.startswith("Z"):
            known = _defining(message.grammar_version, name)
            if known is not None:
                yield from _Segment(message, index, known, allowances).findings()


def _defining(version: str, segment: str) -> Grammar | None:
    """The grammar that defines a segment: the message's, or the first later one."""
    for candidate in VERSIONS[VERSIONS.index(version) :]:
        if grammar(candidate).fields(segment) is not None:
            return grammar(candidate)
    return None


@lru_cache(maxsize=1024)
def _table(version: str, number: str) -> tuple[frozenset[str], re.Pattern[str] | None]:
    """The codes of a table and the forms of further ones (``HL7nnnn``).

    Empty for a table that the standard prints with gaps (``10 ... 19``, ``Q<integer>D``):
    what it does not list cannot be told from what it leaves out.
    """
    codes = grammar(version).table(number)
    if codes and number == _CODING_SYSTEMS_TABLE:
        codes |= grammar(VERSIONS[-1]).table(number)
    if any(_GAP.search(code) for code in codes):
        return frozenset(), None
    forms = [
        re.escape(match[1]) + r"\w+"
        for match in map(_PLACEHOLDER.fullmatch, codes)
        if match is not None
    ]
    return codes, re.compile("|".join(forms), re.ASCII) if forms else None


class _Segment:
    """One segment's fields against their definitions."""

    def __init__(
        self, message: Message, index: int, known: Grammar, allowances: Allowances
    ) -> None:
        self._message = message
        self._index = index
        self._known = known
        self._place = segment_place(message, index)
        self._rule = f"HL7 {known.version}"
        self._allowances = allowances

    def findings(self) -> Iterator[Finding]:
        """All of the segment."""
        definitions = self._known.fields(self._message.name(self._index)) or {}
        written = self._message.fields(self._index)
        for number, definition in definitions.items():
            if number > _DELIMITER_FIELDS or not self._message.is_delimiter_field(
                self._index, number
            ):
                yield from self._field(definition)
        last = max(definitions, default=0)
        for number in range(last + 1, len(written)):
            if written[number]:
                text = f"{self._message.name(self._index)} has {last} fields"
                yield self._found(f"{self._place}-{number}", "199", text, "warning")
                return

    def _field(self, definition: FieldDefinition) -> Iterator[Finding]:
        place = f"{self._place}-{definition.number}"
        repetitions = self._message.repetitions(self._index, definition.number)
        count = max((n for n, text in enumerate(repetitions, 1) if text), default=0)
        if not count:
            if definition.least:
                yield self._found(place, "101", f"{_words(definition.name)} is required")
            return
        if definition.most == 0:
            text = f"{_words(definition.name) or 'the field'} is withdrawn"
            yield self._found(place, "198", text, "warning")
            return
        if 0 < definition.most < count:
            text = f"{_words(definition.name)} occurs {count} times, at most {definition.most}"
            yield self._found(f"{place}({definition.most + 1})", "198", text)
        for number, text in enumerate(repetitions[:count], 1):
            if text and text != NULL:
                at = f"{place}({number})" if count > 1 else place
                yield from self._value(definition, text, at)

    def _value(self, definition: FieldDefinition, text: str, place: str) -> Iterator[Finding]:
        datatype, delimiters = definition.datatype, self._message.delimiters
        if datatype == VARIES:
            datatype = self._message.text(self._index, 2, 1).strip()
            if not datatype:
                type_field = (self._known.fields("OBX") or {}).get(2)
                if type_field and not type_field.least:  # else it is told as required
                    wanted = "the type of OBX-5 is required where OBX-5 is"
                    yield self._found(f"{self._place}-2", "101", wanted)
                return
        components = component_definitions(self._known.version, datatype)
        if not components:
            yield from self._primitive(definition, datatype, text, place)
            return
        parts = text.split(delimiters.component)
        for part, wanted_part in itertools.zip_longest(parts, components):
            number = wanted_part.number if wanted_part else len(components) + 1
            if wanted_part is None:
                if part:
                    told = f"{datatype} has {len(components)} components"
                    yield self._found(f"{place}.{number}", "199", told, "warning")
                return
            at = f"{place}.{number}"
            if not part:
                if wanted_part.least:
                    told = f"{_words(wanted_part.name)} is required in {datatype}"
                    yield self._found(at, "101", told)
            elif part != NULL:
                yield from self._component(wanted_part, datatype, part, at)

    def _component(
        self, definition: FieldDefinition, within: str, text: str, place: str
    ) -> Iterator[Finding]:
        below = component_definitions(self._known.version, definition.datatype)
        separator = self._message.delimiters.subcomponent
        if not below or not separator:
            # Until 2.5 the grammars call the first component of TS a string.
            timed = within == "TS" and definition.number == 1
            yield from self._primitive(
                definition, "DTM" if timed else definition.datatype, text, place
            )
            return
        for part, wanted in zip(text.split(separator), below, strict=False):
            if part and part != NULL:
                at = f"{place}.{wanted.number}"
                yield from self._primitive(wanted, wanted.datatype, part, at)

    def _primitive(
        self, definition: FieldDefinition, datatype: str, text: str, place: str
    ) -> Iterator[Finding]:
        if datatype in PRIMITIVES:
            holds, name = PRIMITIVES[datatype]
            if not holds(text.strip()):
                yield self._found(place, "102", f"not {name} ({datatype})", written=text)
                return
        elif definition.table and datatype in {"ID", "IS"}:
            yield from self._coded(definition.table, datatype, text.strip(), place)
        most = self._known.length(datatype)
        if most and len(text) > most:
            told = f"{len(text)} characters, {datatype} has at most {most}"
            yield self._found(place, "102", told, "warning")

    def _coded(self, table: str, datatype: str, text: str, place: str) -> Iterator[Finding]:
        """ID takes HL7's codes only; IS a site's own, for which HL7's are suggestions."""
        codes, forms = _table(self._known.version, table)
        if not codes or text in codes or text in self._allowances.codes(table):
            return
        if forms is not None and forms.fullmatch(text):
            return
        if table != _TYPES_TABLE or not self._known.is_datatype(text):
            severity: Severity = "error" if datatype == "ID" else "warning"
            yield self._found(place, "103", f"no code of table {table}", severity, text)

    def _found(
        self, place: str, code: str, text: str, severity: Severity = "error", written: str = ""
    ) -> Finding:
        return Finding(place, code, text, severity, self._rule, written)


def _words(name: str) -> str:
    """``PATIENT_IDENTIFIER_LIST`` as people write it."""
    return name.replace("_", " ").capitalize()
