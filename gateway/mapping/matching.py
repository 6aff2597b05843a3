"""Which mapping is for a message."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

from gateway.mapping.findings import Findings, Place
from gateway.mapping.program import ANY, Match, Program
from gateway.ports import CompiledPath, Scope

COMBINATIONS_MAX = 100_000


class Matcher:
    """The mappings of one format, the most specific first.

    Mappings that match on the same paths share one look at the message and one
    dictionary, so that fifty mappings cost no more than one.
    """

    def __init__(self, programs: Sequence[Program]) -> None:
        groups: dict[tuple[str, ...], list[Program]] = {}
        for program in sorted(programs, key=lambda program: program.name):
            if program.match.paths or program.entries:
                names = tuple(path.text for path in program.match.paths)
                groups.setdefault(names, []).append(program)
        ordered = sorted(groups.values(), key=lambda group: -len(group[0].match.paths))
        self._groups = [_Group(group) for group in ordered]

    def find(self, root: Scope) -> Program | None:
        """The first mapping that fits, in order of specificity and then of name."""
        for group in self._groups:
            found = group.find(root)
            if found is not None:
                return found
        return None


class _Group:
    """Mappings that look at the same paths."""

    def __init__(self, programs: list[Program]) -> None:
        self._paths: tuple[CompiledPath, ...] = programs[0].match.paths
        self._exact: dict[tuple[str, ...], Program] = {}
        self._others: list[Program] = []
        for program in programs:
            values = program.match.values
            size = 1
            for wanted in values:
                size *= len(wanted)
            if size > COMBINATIONS_MAX or any(ANY in wanted for wanted in values):
                self._others.append(program)
                continue
            for combination in product(*values):
                self._exact.setdefault(combination, program)

    def find(self, root: Scope) -> Program | None:
        found = [[v.text.strip() for v in path.read(root) if v.text] for path in self._paths]
        for combination in product(*found):
            program = self._exact.get(combination)
            if program is not None:
                return program
        for program in self._others:
            if program.match.fits(root):
                return program
        return None


def find_ambiguities(programs: Sequence[Program], findings: Findings) -> None:
    """Report mappings of which either could be for the same message."""
    either: dict[str, tuple[Program, list[str]]] = {}
    for first, second in combinations(programs, 2):
        if first.format is not second.format:
            continue
        if len(first.match.paths) != len(second.match.paths):
            continue
        verdict = _overlap(first.match, second.match)
        both = f"{second.name} and {first.name}"
        if verdict == "same":
            hint = "make one more specific with a further path in match:"
            findings.error(_place(second), "ambiguous", f"{both} match the same messages", hint)
        elif verdict == "maybe":
            taken, left = sorted((first, second), key=lambda each: each.name)
            either.setdefault(left.name, (left, []))[1].append(taken.name)
    for left, taken_names in either.values():
        names = ", ".join(sorted(taken_names))
        findings.warning(
            _place(left), "ambiguous",
            f"a message that {left.name} matches may match {names} too, and is then not for "
            f"{left.name}",
            "with one more path in match: it is",
        )  # fmt: skip


def _overlap(first: Match, second: Match) -> str:
    """``same``: surely; ``maybe``: they look at different paths; empty: never."""
    left = {path.text: wanted for path, wanted in zip(first.paths, first.values, strict=True)}
    right = {path.text: wanted for path, wanted in zip(second.paths, second.values, strict=True)}
    for text in left.keys() & right.keys():
        if ANY not in left[text] and ANY not in right[text] and not left[text] & right[text]:
            return ""
    return "same" if left.keys() == right.keys() else "maybe"


def _place(program: Program) -> Place:
    return Place(program.file, program.name, 1, 1)
