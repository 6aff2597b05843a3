"""The steps of rule files as changes of data sets (pydicom's)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from adapters.dicom.profile import BasicProfile
from adapters.dicom.rewriting import CannotRewrite, Change
from adapters.dicom.rule_files import RuleError, Step, named
from adapters.dicom.safe_private import SafeAttributes
from adapters.dicom.vocabulary import VocabularyError, read_vocabulary

_LENGTHS = {"AE": 16, "CS": 16, "DS": 16, "IS": 12, "LO": 64, "SH": 16, "DA": 8, "TM": 14, "AS": 4,
            "DT": 26, "UI": 64}  # fmt: skip
"""Characters of one value (PS3.5 table 6.2-1)."""


def changes_of(steps: Sequence[Step]) -> list[Change]:
    """One change for each step, in order. Raises RuleError for a secret or a vocabulary that cannot
    be read."""
    return [_change(step) for step in steps]


def _change(step: Step) -> Change:
    if step.action == "deidentify":
        return _profile(step).apply
    return {"set": _set, "remove": _remove, "prefix": _prefix, "replace": _replace}[step.action](
        step
    )


def _profile(step: Step) -> BasicProfile:
    safe = vocabulary = None
    if "safe-private" in step.keep:
        safe = SafeAttributes(step.safe_private, declared=step.trust_declarations)
    if "descriptors" in step.keep:
        try:
            vocabulary = read_vocabulary(step.vocabulary)
        except VocabularyError as error:
            raise RuleError([f"{step.place}: vocabulary: {e}" for e in error.problems]) from None
    return BasicProfile(_secret(step), step.keep, safe=safe, vocabulary=vocabulary)


def _secret(step: Step) -> bytes:
    assert step.secret_file is not None, "a rule file without it is not taken"
    try:
        with step.secret_file.open("rb") as stream:
            secret = stream.readline(4096).strip()
    except OSError as error:
        said = f"{step.place}: secret_file cannot be read: {error.strerror}"
        raise RuleError([said]) from None
    if len(secret) < 16:
        raise RuleError([f"{step.place}: secret_file: its first line has less than 16 characters"])
    return secret


def _levels(found: Any, step: Step) -> Iterator[Any]:
    """The data set, and the items of its sequences where the step goes there too."""
    yield found
    if step.in_sequences:
        for element in found:
            if element.VR == "SQ":
                for item in element.value:
                    yield from _levels(item, step)


def _set(step: Step) -> Change:
    def change(found: Any) -> None:
        for level in _levels(found, step):
            # In an item only what is there is set anew: an item is no object of its own.
            if level is found or step.tag in level:
                level.add_new(step.tag, step.vr, _fitting(step, step.value))

    return change


def _remove(step: Step) -> Change:
    def change(found: Any) -> None:
        for level in list(_levels(found, step)):
            if not step.tag:
                for tag in [each.tag for each in level if each.tag.is_private]:
                    del level[tag]
            elif step.tag in level:
                del level[step.tag]

    return change


def _prefix(step: Step) -> Change:
    def prefixed(value: str) -> str:
        return value if value.startswith(step.value) else step.value + value

    return _edited(step, prefixed)


def _replace(step: Step) -> Change:
    def replaced(value: str) -> str:
        if value in step.values:
            return step.values[value]
        return value if step.otherwise == "keep" else ""

    return _edited(step, replaced)


def _edited(step: Step, edit: Callable[[str], str]) -> Change:
    def change(found: Any) -> None:
        for level in _levels(found, step):
            element = level.get(step.tag)
            if element is None or element.is_empty:
                continue
            values = element.value if element.VM > 1 else [element.value]
            made = [_fitting(step, edit(str(each))) for each in values]
            element.value = made if len(made) > 1 else made[0]

    return change


def _fitting(step: Step, value: str) -> str:
    longest = _LENGTHS.get(step.vr)
    if longest is not None and any(len(each) > longest for each in value.split("\\")):
        raise CannotRewrite(f"{step.place} makes {named(step.tag)} longer than {longest}")
    return value
