"""Rule files: what is changed in DICOM objects on their way to a destination.

YAML, with every problem at its line and column. A file is a map of ``rules`` (its name), ``reason``
(optional) and ``steps``, each of which says one thing to be done and why.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adapters.dicom.dictionary import TAGS, keyword_of, tag_of, vr_of
from adapters.dicom.safe_private import CREATOR_MAX, OF_A_SITE, SafePrivate
from adapters.dicom.vocabulary import DEFAULT

FILE_BYTES_MAX = 1 << 20
STEPS_MAX = 500
VALUES_MAX = 5_000

ACTIONS = ("set", "remove", "prefix", "replace", "deidentify")
KEPT = frozenset(
    {"dates", "modified-dates", "patient-characteristics", "uids", "safe-private", "descriptors"}
)
"""What de-identification may leave (PS3.15 E.3.6 with full or modified dates, E.3.7, E.3.9, E.3.10,
E.3.5)."""
SAFE_PRIVATE_MAX = 2_000
VOCABULARIES_MAX = 20
_KEYS: Mapping[str, frozenset[str]] = {
    "set": frozenset({"to", "in_sequences"}),
    "remove": frozenset({"in_sequences"}),
    "prefix": frozenset({"with", "in_sequences"}),
    "replace": frozenset({"values", "otherwise", "in_sequences"}),
    "deidentify": frozenset(
        {"keep", "secret_file", "safe_private", "trust_declarations", "vocabulary"}
    ),
}
_REQUIRED = {"set": ("to",), "prefix": ("with",), "replace": ("values",),
             "deidentify": ("secret_file",)}  # fmt: skip
_TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM",
                   "UC", "UI", "UT"})  # fmt: skip
_NEVER = frozenset({0x00020010, 0x00080005, 0x00080016, 0x00080018, 0x7FE00010})
"""Transfer syntax, character set, SOP class and instance UID, pixel data: the object itself."""
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_GROUP, _ELEMENT = re.compile("[0-9A-Fa-f]{4}"), re.compile("[0-9A-Fa-f]{2}")
_OF_AN_OPTION = {
    "safe_private": "safe-private",
    "trust_declarations": "safe-private",
    "vocabulary": "descriptors",
}
PRIVATE = "private"
"""In the place of an attribute: all private ones."""


class RuleError(Exception):
    """Rule files that cannot be used. ``problems`` are lines ``file:line:column: what``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to be done, why, and where that is said. ``tag`` 0: all private attributes."""

    action: str
    reason: str
    place: str
    tag: int = 0
    vr: str = ""
    value: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = "keep"
    in_sequences: bool = False
    keep: frozenset[str] = frozenset()
    secret_file: Path | None = None
    safe_private: tuple[SafePrivate, ...] = ()
    trust_declarations: bool = False
    vocabulary: tuple[Path | None, ...] = (None,)
    """Files of words; ``None`` is the list that ships."""


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The steps of one file, in their order."""

    name: str
    steps: tuple[Step, ...]


def read_rules(path: Path) -> RuleFile:
    """Read a rule file. Raises RuleError with every problem that is found."""
    reading = _Reading(path)
    root = reading.compose()
    top = reading.map(root, {"rules", "reason", "steps"})
    name = reading.text(top.get("rules"), root, "rules: a name is needed")
    given = top.get("steps")
    steps: list[Step] = []
    if not isinstance(given, yaml.SequenceNode) or not given.value:
        reading.wrong(given or root, "steps: a list is needed")
    elif len(given.value) > STEPS_MAX:
        reading.wrong(given, f"more than {STEPS_MAX} steps")
    else:
        found = (_step(reading, each) for each in given.value)
        steps = [each for each in found if each is not None]
    if reading.problems:
        raise RuleError(reading.problems)
    return RuleFile(name, tuple(steps))


class _Reading:
    """One file, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def place(self, node: yaml.Node) -> str:
        """``file:line:column`` of a node."""
        mark = node.start_mark
        return f"{self.path}:{mark.line + 1}:{mark.column + 1}"

    def wrong(self, node: yaml.Node, what: str) -> None:
        """Note a problem."""
        self.problems.append(f"{self.place(node)}: {what}")

    def compose(self) -> yaml.Node:
        """The file's nodes. Raises RuleError."""
        try:
            if self.path.stat().st_size > FILE_BYTES_MAX:
                raise RuleError([f"{self.path}: larger than {FILE_BYTES_MAX} bytes"])
            text = self.path.read_text(encoding="utf-8")
            for event in yaml.parse(text, Loader=yaml.CSafeLoader):
                mark = event.start_mark
                anchored = isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None)
                if anchored and mark is not None:
                    said = "anchors are not taken: write it out"
                    raise RuleError([f"{self.path}:{mark.line + 1}:{mark.column + 1}: {said}"])
            node: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
        except UnicodeDecodeError:
            raise RuleError([f"{self.path}: not UTF-8"]) from None
        except OSError as error:
            raise RuleError([f"{self.path}: cannot be read: {error.strerror}"]) from None
        except yaml.MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark
            where = f":{at.line + 1}:{at.column + 1}" if at is not None else ""
            raise RuleError([f"{self.path}{where}: not YAML: {error.problem}"]) from None
        except (yaml.YAMLError, RecursionError):
            raise RuleError([f"{self.path}: not YAML"]) from None
        if not isinstance(node, yaml.MappingNode):
            raise RuleError([f"{self.path}:1:1: a rule file is a map at its top"])
        return node

    def map(self, node: yaml.Node, known: set[str]) -> dict[str, yaml.Node]:
        """The values of a map by its keys, each of which must be known."""
        found: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, "a map is expected here")
            return found
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name not in known:
                near = difflib.get_close_matches(name, sorted(known), n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                self.wrong(key, f"there is no key {name or 'like this'} here{hint}")
            elif name in found:
                self.wrong(key, f"{name} stands twice")
            else:
                found[name] = value
        return found

    def beside(self, path: Path) -> Path:
        """A path that a file names: from the file's folder."""
        return path if path.is_absolute() else self.path.parent / path

    def text(self, node: yaml.Node | None, around: yaml.Node, missing: str) -> str:
        """A scalar's text; empty, with a problem noted, when there is none."""
        if isinstance(node, yaml.ScalarNode) and node.value.strip():
            return str(node.value).strip()
        self.wrong(node or around, missing)
        return ""


def _step(reading: _Reading, node: yaml.Node) -> Step | None:
    before = len(reading.problems)
    every = {"reason", *ACTIONS, *(key for keys in _KEYS.values() for key in keys)}
    given = reading.map(node, every)
    actions = [each for each in ACTIONS if each in given]
    if len(actions) != 1:
        reading.wrong(node, f"a step has one of {', '.join(ACTIONS)}")
        return None
    action = actions[0]
    for key in given:
        if key not in {"reason", action, *_KEYS[action]}:
            reading.wrong(given[key], f"{key} does not go with {action}")
    for key in _REQUIRED.get(action, ()):
        if key not in given:
            reading.wrong(node, f"{action} needs {key}")
    reason = reading.text(given.get("reason"), node, "a reason is needed: why is this done?")
    subject = reading.text(given[action], node, f"{action}: what?")
    values = _values(reading, given.get("values"))
    if len(reading.problems) > before:
        return None
    if action == "deidentify":
        return _deidentify(reading, node, given, subject, reason)
    found = _attribute(reading, given[action], subject, action)
    if found is None:
        return None
    in_sequences = _flag(reading, given, "in_sequences")
    written = given.get("to") or given.get("with")
    value = str(written.value) if isinstance(written, yaml.ScalarNode) else ""
    otherwise = given.get("otherwise")
    return Step(
        action=action, reason=reason, place=reading.place(node), tag=found[0], vr=found[1],
        value=value, values=values, in_sequences=in_sequences,
        otherwise=str(otherwise.value) if isinstance(otherwise, yaml.ScalarNode) else "keep",
    )  # fmt: skip


def _deidentify(
    reading: _Reading, node: yaml.Node, given: dict[str, yaml.Node], subject: str, reason: str
) -> Step | None:
    if subject != "basic":
        reading.wrong(given["deidentify"], "the profile is basic (PS3.15 annex E)")
        return None
    keep = _kept(reading, given.get("keep"))
    if {"dates", "modified-dates"} <= keep:
        reading.wrong(node, "dates are kept as they are or modified, not both")
        return None
    for key, name in _OF_AN_OPTION.items():
        if key in given and name not in keep:
            reading.wrong(given[key], f"{key} goes with keep: [{name}]")
    secret = Path(reading.text(given["secret_file"], node, "secret_file: which?"))
    return Step(
        action="deidentify", reason=reason, place=reading.place(node), keep=keep,
        secret_file=reading.beside(secret), safe_private=_safe_private(reading, given),
        trust_declarations=_flag(reading, given, "trust_declarations"),
        vocabulary=_vocabulary(reading, given),
    )  # fmt: skip


def _flag(reading: _Reading, given: dict[str, yaml.Node], key: str) -> bool:
    text = reading.text(given[key], given[key], f"{key}: which?") if key in given else "false"
    if text not in {"", "true", "false"}:
        reading.wrong(given[key], f"{key} is true or false")
    return text == "true"


def _listed(reading: _Reading, node: yaml.Node | None, what: str, most: int) -> list[yaml.Node]:
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode) or not 1 <= len(node.value) <= most:
        reading.wrong(node, f"{what} is a list of 1 to {most}")
        return []
    return list(node.value)


def _kept(reading: _Reading, node: yaml.Node | None) -> frozenset[str]:
    if node is None:
        return frozenset()
    if not isinstance(node, yaml.SequenceNode):
        reading.wrong(node, "keep is a list")
        return frozenset()
    keep = set()
    for each in node.value:
        if isinstance(each, yaml.ScalarNode) and each.value in KEPT:
            keep.add(each.value)
        else:
            reading.wrong(each, f"what is kept is one of {', '.join(sorted(KEPT))}")
    return frozenset(keep)


def _safe_private(reading: _Reading, given: dict[str, yaml.Node]) -> tuple[SafePrivate, ...]:
    """The private attributes that a site names: creator, group, element in the block, VR."""
    found = []
    for each in _listed(reading, given.get("safe_private"), "safe_private", SAFE_PRIVATE_MAX):
        keys = ("creator", "group", "element", "vr")
        values = reading.map(each, set(keys))
        creator, group, element, vr = (
            reading.text(values.get(key), each, f"safe_private: which {key}?") for key in keys
        )
        if not (creator and group and element and vr):
            continue
        if len(creator) > CREATOR_MAX:
            reading.wrong(values["creator"], f"longer than {CREATOR_MAX} characters")
        elif not _GROUP.fullmatch(group) or int(group, 16) % 2 == 0 or int(group, 16) < 9:
            reading.wrong(values["group"], "a private group is odd: 4 digits, 0009 to FFFF")
        elif not _ELEMENT.fullmatch(element):
            reading.wrong(values["element"], "the element in its block: 2 digits, 00 to FF")
        elif vr not in OF_A_SITE:
            reading.wrong(values["vr"], f"kept are {', '.join(sorted(OF_A_SITE))}")
        else:
            found.append(SafePrivate(creator, int(group, 16), int(element, 16), vr))
    return tuple(found)


def _vocabulary(reading: _Reading, given: dict[str, yaml.Node]) -> tuple[Path | None, ...]:
    found: list[Path | None] = []
    for each in _listed(reading, given.get("vocabulary"), "vocabulary", VOCABULARIES_MAX):
        name = reading.text(each, each, "vocabulary: which file?")
        found.append(None if name == DEFAULT else reading.beside(Path(name)))
    return tuple(found) or (None,)


def _values(reading: _Reading, node: yaml.Node | None) -> dict[str, str]:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode) or len(node.value) > VALUES_MAX:
        reading.wrong(node, f"values is a map of at most {VALUES_MAX} texts to texts")
        return {}
    found: dict[str, str] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            reading.wrong(key, "a text is expected for a text")
        elif key.value in found:
            reading.wrong(key, f"{key.value} stands twice")
        else:
            found[key.value] = value.value
    return found


def _attribute(
    reading: _Reading, node: yaml.Node, subject: str, action: str
) -> tuple[int, str] | None:
    """Tag and value representation of the attribute that a step is about."""
    if subject == PRIVATE and action == "remove":
        return 0, ""
    written = _TAG.fullmatch(subject)
    tag = int(written[1] + written[2], 16) if written else tag_of(subject)
    if tag is None:
        near = difflib.get_close_matches(subject, TAGS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        reading.wrong(node, f"the data dictionary has no {subject}{hint}")
        return None
    if tag in _NEVER or tag >> 16 == 0x0002:
        reading.wrong(node, f"{subject} is what makes the object: it cannot be changed here")
        return None
    try:
        vr = vr_of(tag)
    except KeyError:
        vr = ""
    if action != "remove" and vr not in _TEXT:
        named = f"is of representation {vr}" if vr else "is not in the data dictionary"
        reading.wrong(node, f"{subject} {named}: it can be removed only")
        return None
    return int(tag), vr


def named(tag: int) -> str:
    """An attribute's keyword, or its tag in words."""
    return keyword_of(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def steps_of(paths: tuple[Path, ...]) -> tuple[Step, ...]:
    """The steps of several files, in order. Raises RuleError with the problems of all."""
    steps: list[Step] = []
    problems: list[Any] = []
    for path in paths:
        try:
            steps += read_rules(path).steps
        except RuleError as error:
            problems += error.problems
    if problems:
        raise RuleError(problems)
    return tuple(steps)
