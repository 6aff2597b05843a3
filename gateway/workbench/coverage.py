"""What mappings keep of whole folders of messages: retention per source path, and measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.mapping import MappingContext
from gateway.mapping.r4.problems import ProblemCode
from gateway.mapping.serialise import dumps
from gateway.model import Cause, CauseCode, Format, Mapped
from gateway.workbench.codes import unknown_codes
from gateway.workbench.elements import shown
from gateway.workbench.examining import Bench, Examined, Part, examine
from gateway.workbench.files import Message, NoMessage
from gateway.workbench.happenings import Outcome
from gateway.workbench.provenance import Provenance
from gateway.workbench.retention import Fate, settle

PATHS_MAX = 50_000
"""Different source paths that are counted; what comes after is counted as one."""

LISTED_MAX = 1_000
"""Messages and problems that are listed by name; more are only counted."""

OTHER_PATHS = "(other paths)"


@dataclass(slots=True)
class PathCount:
    """One source path of one mapping: in how many messages, how many values, their fates."""

    format: Format
    mapping: str
    path: str
    messages: int = 0
    present: int = 0
    mapped: int = 0
    ignored: int = 0
    lost: int = 0
    reasons: dict[str, None] = field(default_factory=dict)
    example: str = ""
    """The file of the first message in which a value at this path is lost."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with what a message became: which file, where, what."""

    message: str
    path: str
    detail: str


class Apart(StrEnum):
    """Why a file or message is not counted."""

    NO_MESSAGE = "no_message"
    """The file holds none of a known format."""
    UNREADABLE = "unreadable"
    """It is a message of a known format, and broken."""
    UNMAPPED = "unmapped"
    """No mapping takes it."""
    REFUSED = "refused"
    """A mapping or a limit refuses it."""


@dataclass(frozen=True, slots=True)
class SetApart:
    """One file or message that is not counted: under which heading, where, and why."""

    message: str
    heading: Apart
    path: str
    detail: str


@dataclass(slots=True)
class UnknownCount:
    """A code that a table does not have: how often, and the first message that has it."""

    table: str
    code: str
    times: int
    example: str


@dataclass(slots=True)
class Coverage:
    """What was counted. :attr:`retention` is the share of values that are not lost, of
    those that no ``ignore:`` leaves out."""

    messages: int = 0
    entries: int = 0
    counts: dict[tuple[str, str], PathCount] = field(default_factory=dict)
    invalid: int = 0
    dangling: int = 0
    invented: int = 0
    unstable: int = 0
    faults: list[Fault] = field(default_factory=list)
    unknown: dict[tuple[str, str], UnknownCount] = field(default_factory=dict)
    """The codes that no table has, by table and code."""
    apart: dict[Apart, int] = field(default_factory=lambda: dict.fromkeys(Apart, 0))
    set_apart: list[SetApart] = field(default_factory=list)
    """What is not counted, by name; ``apart`` counts all of it by heading."""

    def total(self, fate: Fate | None = None, format: Format | None = None) -> int:  # noqa: A002
        """How many values there are, of one fate, of one format."""
        name = "present" if fate is None else fate.value
        return sum(
            getattr(count, name)
            for count in self.counts.values()
            if format is None or count.format is format
        )

    def retention_of(self, format: Format | None = None) -> float | None:  # noqa: A002
        """Mapped values in percent of those not ignored; None where there are none."""
        mapped, lost = self.total(Fate.MAPPED, format), self.total(Fate.LOST, format)
        return 100 * mapped / (mapped + lost) if mapped + lost else None

    @property
    def retention(self) -> float | None:
        """:meth:`retention_of` everything."""
        return self.retention_of()

    @property
    def formats(self) -> list[Format]:
        """The formats of which something was counted."""
        return sorted({count.format for count in self.counts.values()})

    def measures(self) -> dict[str, int]:
        """What must be zero, whatever the retention."""
        return {
            "invalid_resources": self.invalid,
            "dangling_references": self.dangling,
            "invented_values": self.invented,
            "unstable_messages": self.unstable,
        }

    def failures(self, fail_under: float | None) -> list[str]:
        """What keeps the measures from being met, a sentence each; empty when they are."""
        share, failures = self.retention, []
        if fail_under is not None and (share is None or share < fail_under):
            said = "nothing was counted" if share is None else f"retention is {share:.3f} %"
            failures.append(f"{said}, and {fail_under:g} % is wanted")
        for name, value in self.measures().items():
            if value:
                failures.append(f"{name.replace('_', ' ')}: {value}, and none may be")
        return failures

    def unknown_codes(self) -> list[UnknownCount]:
        """The codes that no table has, the most frequent first; at most 1,000 are counted."""
        return sorted(self.unknown.values(), key=lambda one: (-one.times, one.table, one.code))

    def paths(self) -> list[PathCount]:
        """Every path: by format and mapping, the most lost first."""
        return sorted(
            self.counts.values(), key=lambda c: (c.format, c.mapping, -c.lost, -c.present, c.path)
        )


def cover(
    bench: Bench,
    messages: Iterable[Message | NoMessage],
    contexts: Mapping[Format, MappingContext],
) -> Iterator[Coverage]:
    """Count message after message; yields the same, growing Coverage after each.

    Memory does not grow with the number of messages. ``contexts`` is what a source of each
    format says; without one times have no zone and the source is called ``file``.
    """
    found = Coverage()
    for message in messages:
        if isinstance(message, NoMessage):
            _apart(found, SetApart(message.name, Apart.NO_MESSAGE, "", message.reason))
        else:
            context = contexts.get(message.format, MappingContext(source="file"))
            _count(found, bench, message, context)
        yield found


def _count(found: Coverage, bench: Bench, message: Message, context: MappingContext) -> None:
    examined = examine(bench, message.format, message.payloads, context)
    if isinstance(examined, Cause):
        _count_refused(found, message, examined)
        return
    found.messages += 1
    found.entries += len(examined.mapped.entries)
    for unknown in unknown_codes(examined):
        key = (unknown.table, unknown.code)
        if key in found.unknown or len(found.unknown) < LISTED_MAX:
            one = UnknownCount(unknown.table, unknown.code, 0, message.name)
            found.unknown.setdefault(key, one).times += 1
    outcome = Outcome(examined)
    for part in examined.parts:
        _count_part(found, bench, message, part, outcome)
    _measure(found, bench, message, context, examined)


def _count_refused(found: Coverage, message: Message, cause: Cause) -> None:
    heading = _HEADINGS.get(cause.code, Apart.REFUSED)
    detail = f"{cause.code.value}: {cause.detail}"
    _apart(found, SetApart(message.name, heading, cause.location, detail))


_HEADINGS = {CauseCode.UNMAPPED: Apart.UNMAPPED, CauseCode.UNREADABLE: Apart.UNREADABLE}


def _apart(found: Coverage, one: SetApart) -> None:
    found.apart[one.heading] += 1
    if len(found.set_apart) < LISTED_MAX:
        found.set_apart.append(one)


def _count_part(
    found: Coverage, bench: Bench, message: Message, part: Part, outcome: Outcome
) -> None:
    inventory = bench.inventories[part.format]
    seen: set[str] = set()
    name = part.program.name
    for settled in settle(part, outcome, inventory):
        path = settled.leaf.generic
        key = (name, path)
        count = found.counts.get(key)
        if count is None:
            if len(found.counts) >= PATHS_MAX:
                key = (name, OTHER_PATHS)
            count = found.counts.setdefault(key, PathCount(part.format, name, key[1]))
        if count.path not in seen:
            seen.add(count.path)
            count.messages += 1
        count.present += 1
        if settled.fate is Fate.MAPPED:
            count.mapped += 1
        elif settled.fate is Fate.IGNORED:
            count.ignored += 1
            count.reasons.setdefault(settled.reason)
        else:
            count.lost += 1
            count.example = count.example or message.name


def _measure(
    found: Coverage, bench: Bench, message: Message, context: MappingContext, examined: Examined
) -> None:
    resources = [entry.resource for entry in examined.mapped.entries]
    invalid: set[str] = set()
    for problem in bench.checker.check_entries(resources):
        if problem.code is ProblemCode.DANGLING:
            found.dangling += 1
        else:
            invalid.add(problem.path.partition(".")[0])
        _fault(found, Fault(message.name, problem.path, f"{problem.code.value}: {problem.message}"))
    found.invalid += len(invalid)
    for resource, steps, _, explained in Provenance(examined).everything():
        if explained is None:
            found.invented += 1
            where = f"{resource['resourceType']}.{shown(steps)}"
            _fault(found, Fault(message.name, where, "invented: no rule says where it is from"))
    if not _stable(bench, message, context, examined.mapped):
        found.unstable += 1
        _fault(found, Fault(message.name, "", "unstable: two runs gave different entries"))


def _stable(bench: Bench, message: Message, context: MappingContext, traced: Mapped) -> bool:
    """Whether the message, read and mapped twice more, gives the same bytes both times, and
    what the traced rules gave."""
    runs = [
        examine(bench, message.format, message.payloads, context, trace=False) for _ in range(2)
    ]
    plain = [run.mapped for run in runs if isinstance(run, Examined)]
    if len(plain) < len(runs) or _bytes_of(plain[0]) != _bytes_of(plain[1]):
        return False
    return _bytes_of(plain[0], sort_keys=True) == _bytes_of(traced, sort_keys=True)


def _bytes_of(mapped: Mapped, *, sort_keys: bool = False) -> bytes:
    said = [[entry.resource, entry.create_only] for entry in mapped.entries]
    return dumps(said, sort_keys=sort_keys)


def _fault(found: Coverage, fault: Fault) -> None:
    if len(found.faults) < LISTED_MAX:
        found.faults.append(fault)
