"""Profiles compiled and run: a site's own rules over a message.

A path means every segment of its name and every repetition of its field, unless it
chooses (:mod:`adapters.hl7.paths`): ``PID-3(5=INS).1`` speaks of the INS alone. A
rule over a field says nothing of a message without the segment; ``PID: {required:
true}`` does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from uuid import UUID

from adapters.hl7.checking import check_path, check_versions
from adapters.hl7.compiling import select_repetitions, select_segments
from adapters.hl7.conformance import FINDINGS_MAX, Allowances, Finding, segment_place
from adapters.hl7.conformance import check as check_grammar
from adapters.hl7.datatypes import PRIMITIVES
from adapters.hl7.grammar import grammar
from adapters.hl7.message import Message
from adapters.hl7.paths import EVERY, Which, parse
from adapters.hl7.paths import Path as Hl7Path
from adapters.hl7.profile_files import Marks, ProfileError, read_profile_file
from adapters.hl7.profile_model import Profile, Rule, bounds
from adapters.hl7.scopes import MessageScope
from adapters.hl7.values import Hl7Value
from gateway.ports import PathError, ValueState

_HL7_TABLE = re.compile(r"\d{4}\Z", re.ASCII)
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+\Z", re.ASCII)
_WRITTEN = (ValueState.PRESENT, ValueState.NULL)


def _is_uuid(text: str) -> bool:
    try:
        return len(text) == 36 and UUID(text) is not None
    except ValueError:
        return False


_KINDS: dict[str, tuple[Callable[[str], bool], str]] = {
    **PRIMITIVES,
    "digits": (lambda text: text.isascii() and text.isdecimal(), "digits only"),
    "letters": (str.isalpha, "letters only"),
    "alphanumeric": (str.isalnum, "letters and digits only"),
    "oid": (lambda text: _OID.match(text) is not None, "an OID"),
    "uuid": (_is_uuid, "a UUID"),
}


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule: its path over every place, and where in the file it stands."""

    path: Hl7Path
    rule: Rule
    place: str


class CompiledProfile:
    """A profile that is ready to run. Holds no state of a message; any thread."""

    def __init__(self, profile: Profile, rules: Mapping[str, Mapping[str, CompiledRule]]) -> None:
        self.profile = profile
        self._rules = rules
        self._of_type: dict[tuple[str, str], tuple[CompiledRule, ...]] = {}

    @cached_property
    def allowances(self) -> Allowances:
        """What the profile takes beyond the grammar."""
        own = {
            name: frozenset(codes)
            for name, codes in self.profile.tables.items()
            if _HL7_TABLE.match(name)
        }
        return Allowances(frozenset(self.profile.segments), own)

    def applies(self, scope: MessageScope) -> bool:
        """Is the profile for messages of this version?"""
        return not self.profile.versions or scope.message.version in self.profile.versions

    def check(self, scope: MessageScope) -> Iterator[Finding]:
        """Everything in which a message breaks the profile's own rules."""
        if not self.applies(scope):
            return
        found = (
            finding
            for rule in self._of(scope.structure[0], scope.structure[1])
            for finding in _Run(self, rule, scope).findings()
        )
        yield from islice(found, FINDINGS_MAX)

    def check_all(self, scope: MessageScope) -> Iterator[Finding]:
        """:meth:`check`, and the grammar where the profile asks for it."""
        yield from self.check(scope)
        if self.profile.grammar and self.applies(scope):
            yield from check_grammar(scope, self.allowances)

    def _of(self, message_type: str, event: str) -> tuple[CompiledRule, ...]:
        """The rules for a message type: a path's rule of the narrowest type."""
        known = self._of_type.get((message_type, event))
        if known is None:
            chosen: dict[str, CompiledRule] = {}
            for key in ("*", message_type, f"{message_type}^{event}"):
                chosen.update(self._rules.get(key, {}))
            known = tuple(chosen.values())
            if len(self._of_type) < FINDINGS_MAX:
                self._of_type[message_type, event] = known
        return known

    def codes(self, table: str, version: str) -> frozenset[str]:
        """The codes of a table of the file, or of HL7's with those that the file adds."""
        own = frozenset(self.profile.tables.get(table, ()))
        return own | grammar(version).table(table) if _HL7_TABLE.match(table) else own


def allowances_of(profiles: Sequence[CompiledProfile], scope: MessageScope) -> Allowances:
    """What the profiles for a message take beyond the grammar, together."""
    segments: frozenset[str] = frozenset()
    tables: dict[str, frozenset[str]] = {}
    for each in profiles:
        if each.applies(scope):
            segments |= each.allowances.segments
            for table, codes in (each.allowances.tables or {}).items():
                tables[table] = tables.get(table, frozenset()) | codes
    return Allowances(segments, tables)


def load_profile(path: Path) -> CompiledProfile:
    """Read and compile a profile file. Raises ProfileError with every problem."""
    profile, marks = read_profile_file(path)
    problems: list[str] = []
    try:
        versions = check_versions(profile.versions)
    except PathError as error:
        raise ProfileError([f"{marks.of(('versions',))}: {_told(error)}"]) from None
    rules: dict[str, dict[str, CompiledRule]] = {}
    for message, paths in profile.messages.items():
        rules[message] = {}
        for text, rule in paths.items():
            place = marks.of(("messages", message, text))
            try:
                parsed = parse(text)
                if parsed.here:
                    raise PathError("a rule's path begins with a segment", "PID-3")
                check_path(parsed, versions)
            except PathError as error:
                problems.append(f"{place}: {_told(error)}")
                continue
            problems += _problems(rule, parsed, profile, marks, ("messages", message, text))
            rules[message][text] = CompiledRule(_everywhere(parsed), rule, place)
    if problems:
        raise ProfileError(problems)
    return CompiledProfile(profile, rules)


def _told(error: PathError) -> str:
    return f"{error} (did you mean {error.suggestion}?)" if error.suggestion else str(error)


def _problems(
    rule: Rule, path: Hl7Path, profile: Profile, marks: Marks, place: tuple[str | int, ...]
) -> Iterator[str]:
    """What of a rule makes no sense at its path."""
    if rule.table is not None:
        known = rule.table in profile.tables or (
            _HL7_TABLE.match(rule.table)
            and any(grammar(version).table(rule.table) for version in check_versions(()))
        )
        if not known:
            yield f"{marks.of((*place, 'table'))}: there is no table {rule.table}"
    if not path.field:
        for name in sorted(rule.model_fields_set & {"length", "type", "values", "table"}):
            yield f"{marks.of((*place, name))}: {name} is for fields, {path.text} is a segment"
    if path.component and rule.occurs is not None:
        yield f"{marks.of((*place, 'occurs'))}: components do not repeat, fields do"


def _everywhere(path: Hl7Path) -> Hl7Path:
    """The path over every segment and repetition that it does not exclude."""
    return dataclasses.replace(path, which=_every(path.which), repetition=_every(path.repetition))


def _every(which: Which) -> Which:
    if which.number:
        return which
    return Which(every=True, conditions=which.conditions) if which.conditions else EVERY


class _Run:
    """One rule over one message."""

    def __init__(
        self, profile: CompiledProfile, compiled: CompiledRule, scope: MessageScope
    ) -> None:
        self._profile = profile
        self._compiled = compiled
        self._rule = compiled.rule
        self._path = compiled.path
        self._scope = scope
        self._message: Message = scope.message

    def findings(self) -> Iterator[Finding]:
        """What breaks the rule."""
        segments = select_segments(self._scope, self._path)
        if self._path.field:
            for index in segments:
                yield from self._field(index)
            return
        name, rule = self._path.text, self._rule
        if rule.required and not segments:
            yield self._found(self._path.segment, "100", f"{name} is required")
        if rule.forbidden and segments:
            yield self._found(self._path.segment, "198", f"{name} is forbidden")
        yield from self._counted(self._path.segment, len(segments))

    def _field(self, index: int) -> Iterator[Finding]:
        path, rule = self._path, self._rule
        values = [
            value
            for value in select_repetitions(self._message, index, path)
            if value.state in _WRITTEN
        ]
        place = f"{segment_place(self._message, index)}-{path.field}"
        if not path.component:
            yield from self._counted(place, len(values), unless_none=True)
        elif values:
            numbers = tuple(n for n in (path.component, path.subcomponent) if n)
            values = [value.part_at(numbers) for value in values]
        if rule.required and not values:
            yield self._found(place, "101", f"{path.text} is required")
        for value in values:
            yield from self._value(value)

    def _counted(self, place: str, count: int, *, unless_none: bool = False) -> Iterator[Finding]:
        """``unless_none``: whether a field is there at all is what ``required`` says."""
        if self._rule.occurs is None or (unless_none and not count):
            return
        least, most = bounds(self._rule.occurs)
        if count < least or 0 <= most < count:
            text = f"{self._path.text} occurs {count} times, {self._rule.occurs} is asked"
            yield self._found(place, "198", text)

    def _value(self, value: Hl7Value) -> Iterator[Finding]:
        rule, name = self._rule, self._path.text
        if value.state not in _WRITTEN:
            if rule.required:
                yield self._found(value.path, "101", f"{name} is required")
            return
        if rule.forbidden:
            yield self._found(value.path, "198", f"{name} is forbidden")
            return
        if value.state is ValueState.NULL:
            return
        text = value.text
        for code, wrong in self._wrong(text):
            yield self._found(value.path, code, f"{name} {wrong}", text)

    def _wrong(self, text: str) -> Iterator[tuple[str, str]]:
        rule = self._rule
        if rule.length is not None:
            least, most = bounds(rule.length)
            if len(text) < least or 0 <= most < len(text):
                yield "102", f"has {len(text)} characters, {rule.length} is asked"
        if rule.type is not None:
            holds, name = _KINDS[rule.type]
            if not holds(text):
                yield "102", f"is not {name}"
        if rule.starts_with is not None and not text.startswith(rule.starts_with):
            yield "102", f"does not begin with {rule.starts_with}"
        if rule.values is not None and text not in rule.values:
            yield "103", "is none of the values that are taken"
        if rule.table is not None:
            codes = self._profile.codes(rule.table, self._message.grammar_version)
            if text not in codes:
                yield "103", f"is no code of table {rule.table}"

    def _found(self, location: str, code: str, text: str, written: str = "") -> Finding:
        rule = self._rule
        return Finding(
            location, rule.code or code, rule.note or text, rule.severity,
            self._compiled.place, written,
        )  # fmt: skip
