"""Profile files read: YAML of plain texts, every problem with its line and column."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from adapters.hl7.profile_model import FORMS, Profile, Rule

FILE_BYTES_MAX = 1 << 20
DEPTH_MAX = 10
NODES_MAX = 50_000
PROBLEMS_MAX = 100

Place = tuple[str | int, ...]


class ProfileError(Exception):
    """A profile that cannot be used. ``problems`` are lines ``file:line:column: what``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Marks:
    """Where each part of a file stands."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._at: dict[Place, tuple[int, int]] = {}

    def put(self, place: Place, mark: Any) -> None:
        """Remember a part's first character, counted from 0 as the YAML reader does."""
        self._at[place] = (mark.line + 1, mark.column + 1)

    def of(self, place: Place) -> str:
        """``file:line:column`` of a part, or of the nearest part around it."""
        while place and place not in self._at:
            place = place[:-1]
        line, column = self._at.get(place, (1, 1))
        return f"{self.file}:{line}:{column}"


def digest_of(path: Path) -> str:
    """What tells one content of a file from another: SHA-256, of no more than a profile may have.
    Empty when the file cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.sha256(stream.read(FILE_BYTES_MAX + 1)).hexdigest()
    except OSError:
        return ""


def read_profile_file(path: Path) -> tuple[Profile, Marks]:
    """Read a profile. Raises ProfileError with every problem that is found.

    A file has at most 1 MiB and 50,000 nodes, 10 levels deep, no anchors and no key
    twice. Every scalar is a text: ``NO`` stays ``NO`` and ``01`` stays ``01``.
    """
    marks = Marks(str(path))
    node = _compose(path, marks)
    tree = _Plain(marks).tree(node)
    if not isinstance(tree, Mapping):
        raise ProfileError([f"{marks.of(())}: a profile is a map at its top"])
    try:
        return Profile.model_validate(tree), marks
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:PROBLEMS_MAX]
        raise ProfileError([_problem(marks, each) for each in found]) from None


def _compose(path: Path, marks: Marks) -> yaml.Node | None:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ProfileError([f"{path}: larger than {FILE_BYTES_MAX} bytes"])
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ProfileError([f"{path}: not UTF-8"]) from None
    except OSError as error:
        raise ProfileError([f"{path}: cannot be read: {error.strerror}"]) from None
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                marks.put((), event.start_mark)
                raise ProfileError([f"{marks.of(())}: anchors are not taken: write it out"])
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            marks.put((), mark)
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise ProfileError([f"{marks.of(())}: not YAML: {what}"]) from None
    except yaml.YAMLError:
        raise ProfileError([f"{path}: not YAML: a character that may not stand there"]) from None
    except RecursionError:
        raise ProfileError([f"{path}: deeper than {DEPTH_MAX} levels"]) from None
    return node


class _Plain:
    """Nodes to plain texts, lists and maps, with the place of each."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._count = 0

    def tree(self, node: yaml.Node | None, place: Place = ()) -> Any:
        """The value of a node; None for an empty one."""
        if node is None:
            return None
        self._count += 1
        self._marks.put(place, node.start_mark)
        if self._count > NODES_MAX or len(place) > DEPTH_MAX:
            raise self._wrong(place, "larger or deeper than a profile may be")
        if isinstance(node, yaml.ScalarNode):
            empty = node.tag == "tag:yaml.org,2002:null" and node.value in {"", "null", "~"}
            return None if empty else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self.tree(item, (*place, number)) for number, item in enumerate(node.value)]
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._marks.put(place, key.start_mark)
                raise self._wrong(place, "a key must be a plain word")
            if key.value in found:
                self._marks.put((*place, key.value), key.start_mark)
                raise self._wrong((*place, key.value), f"{key.value} stands twice")
            found[key.value] = self.tree(value, (*place, key.value))
            self._marks.put((*place, key.value), key.start_mark)
        return found

    def _wrong(self, place: Place, what: str) -> ProfileError:
        return ProfileError([f"{self._marks.of(place)}: {what}"])


def _problem(marks: Marks, error: Any) -> str:
    place = tuple(part for part in error["loc"] if part != "[key]")
    words = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        keys = Rule.model_fields if len(place) > 3 else Profile.model_fields
        near = difflib.get_close_matches(str(place[-1]), list(keys), n=1)
        words = f"there is no such key (did you mean {near[0]}?)" if near else "no such key"
    elif error["type"] == "string_pattern_mismatch":
        words = FORMS.get(error["ctx"]["pattern"], "not written as it should be")
    named = ".".join(map(str, place))
    return f"{marks.of(place)}: {named + ': ' if named else ''}{words}"
