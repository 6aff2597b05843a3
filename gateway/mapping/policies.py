"""What happens when a value is missing, invalid or unknown: answers as closures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.mapping.compiling import At, Compiler, Item
from gateway.mapping.constants import compile_constant
from gateway.mapping.document import Node, Table, Text
from gateway.mapping.findings import Place, nearest
from gateway.mapping.observing import watched_policy
from gateway.mapping.r4.definitions import UnknownPath
from gateway.mapping.running import Drop, Run
from gateway.mapping.targets import Target, child
from gateway.ports import Scope, Value, ValueState

Handler = Callable[[Run, Scope, Item, Value | None], Any]
"""Gives the value to use instead (a pair for an open choice), or None; may raise."""

FLAG_CODES = {"missing": "missing-value", "invalid": "invalid-value", "unknown": "unknown-code"}

ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
ABSENT_CODES = (
    "unknown", "asked-unknown", "temp-unknown", "not-asked", "asked-declined", "masked",
    "not-applicable", "unsupported", "as-text", "error", "not-a-number", "negative-infinity",
    "positive-infinity", "not-performed", "not-permitted",
)  # fmt: skip
"""http://terminology.hl7.org/CodeSystem/data-absent-reason, as FHIR R4 binds it."""

_WORDS = ("skip", "flag", "reject", "drop")
_UNKNOWN_WORDS = (*_WORDS, "keep-and-flag", "convert")
_ANSWERS = ("map", "text", "absent")


def word_of(node: Node | None) -> str:
    """The word of a policy that is one word, else empty."""
    return node.text if isinstance(node, Text) else ""


def leaves_nothing(node: Node | None) -> bool:
    """Whether a policy leaves the element without a value and goes on."""
    return word_of(node) in ("", "skip", "flag") and not isinstance(node, Table)


def compile_policy(
    c: Compiler, which: str, node: Node, target: Target, at: At, *, place: Place
) -> Handler | None:
    """Compile one policy; None when it is wrong (reported).

    ``keep-and-flag`` and ``convert`` are the table's own affair: here they only flag.
    """
    handler = _policy(c, which, node, target, at, place=place)
    return watched_policy(handler, which, node, target, place) if c.watched and handler else handler


def _policy(
    c: Compiler, which: str, node: Node, target: Target, at: At, *, place: Place
) -> Handler | None:
    code = FLAG_CODES[which]
    if isinstance(node, Text):
        words = _UNKNOWN_WORDS if which == "unknown" else _WORDS
        if node.text not in words:
            c.error(
                node.place, "policy", f"{which}: has no answer {node.text!r}",
                nearest(node.text, words) or f"one of {', '.join(words)} or a map",
            )  # fmt: skip
            return None
        return _word(node.text, code, target, place)
    if isinstance(node, Table):
        return _answer(c, which, node, target, at, place=place)
    c.error(node.place, "policy", f"{which}: is a word or a map")
    return None


def _source(scope: Scope, value: Value | None) -> str:
    return value.path if value is not None else scope.path


def _word(word: str, code: str, target: Target, place: Place) -> Handler:
    path = target.path

    def skip(_run: Run, _scope: Scope, _item: Item, _value: Value | None) -> None:
        return None

    def flag(run: Run, scope: Scope, _item: Item, value: Value | None) -> None:
        run.flag(code, place, path, _source(scope, value))

    def reject(run: Run, scope: Scope, _item: Item, value: Value | None) -> None:
        raise run.reject(place, path, _source(scope, value), code)

    def drop(run: Run, scope: Scope, _item: Item, value: Value | None) -> None:
        run.flag(code, place, path, _source(scope, value), "what holds it is left out")
        raise Drop

    answers: dict[str, Handler] = {"skip": skip, "reject": reject, "drop": drop}
    return answers.get(word, flag)


def _answer(
    c: Compiler, which: str, node: Table, target: Target, at: At, *, place: Place
) -> Handler | None:
    given = [key for key in _ANSWERS if key in node.items]
    c.unknown_keys(node, (*_ANSWERS, "reason", "as"), f"{which}:")
    if len(given) != 1:
        c.error(node.place, "policy", f"{which}: is one of {{map}}, {{text}} and {{absent}}")
        return None
    kind, wanted = given[0], node.items[given[0]]
    if kind == "map":
        return _map(c, which, node, target, place)
    if kind == "text":
        return _text(c, which, wanted, target, at, place=place)
    return _absent(c, which, wanted, target, place)


def _map(c: Compiler, which: str, node: Table, target: Target, place: Place) -> Handler | None:
    if not c.text(node, "reason"):
        c.error(node.place, "reason", f"{which}: {{map}} writes what the source does not say",
                "add reason:")  # fmt: skip
    wanted, chosen = node.items["map"], c.text(node, "as")
    if target.open and chosen not in target.types:
        c.error(node.place, "type", "say with as: which type the value has",
                nearest(chosen or "", target.types))  # fmt: skip
        return None
    typed = target.typed(chosen) if target.open and chosen else target
    make = compile_constant(c, wanted, typed.item())
    if make is None:
        return None
    code, path, key, open_choice = FLAG_CODES[which], target.path, typed.key, target.open

    def handler(run: Run, scope: Scope, _item: Item, value: Value | None) -> Any:
        run.flag(code, place, path, _source(scope, value), "a fixed value stands instead")
        return (key, make()) if open_choice else make()

    return handler


def _text(
    c: Compiler, which: str, wanted: Node, target: Target, at: At, *, place: Place
) -> Handler | None:
    reader = c.reader(wanted, at) if isinstance(wanted, Text) else None
    if reader is None:
        if not isinstance(wanted, Text):
            c.error(wanted.place, "policy", "{text: PATH} needs a path")
        return None
    wrap = _text_shape(c, target)
    if wrap is None:
        c.error(wanted.place, "policy", f"{target.path} has no place for a text")
        return None
    read, code, path = reader.read, FLAG_CODES[which], target.path

    def handler(run: Run, scope: Scope, item: Item, value: Value | None) -> Any:
        run.flag(code, place, path, _source(scope, value), "the text stands instead")
        texts = [v.text for v in read(scope, item) if v.state is ValueState.PRESENT]
        text = "\n".join(texts)
        return wrap(text) if text.strip() else None

    return handler


def _text_shape(c: Compiler, target: Target) -> Callable[[str], Any] | None:
    if target.open:
        if "string" not in target.types:
            return None
        key = target.key_of("string")
        return lambda text: (key, text)
    if target.types[0] in ("string", "markdown"):
        return lambda text: text
    if target.types[0] in c.definitions.primitives:
        return None
    try:
        inner = child(c.definitions, target, "text")
    except UnknownPath:
        return None
    if inner.types[0] not in ("string", "markdown"):
        return None
    return lambda text: {"text": text}


def _absent(c: Compiler, which: str, wanted: Node, target: Target, place: Place) -> Handler | None:
    reason = word_of(wanted)
    if reason not in ABSENT_CODES:
        c.error(wanted.place, "policy", f"no data-absent-reason {reason!r}",
                nearest(reason, ABSENT_CODES))  # fmt: skip
        return None
    if target.open or target.types[0] in c.definitions.primitives:
        c.error(wanted.place, "policy", f"{target.path} cannot carry an absent reason alone",
                "use {map: …, reason: …}")  # fmt: skip
        return None
    code, path = FLAG_CODES[which], target.path

    def handler(run: Run, scope: Scope, _item: Item, value: Value | None) -> Any:
        run.flag(code, place, path, _source(scope, value), "an absent reason stands instead")
        return {"extension": [{"url": ABSENT_REASON, "valueCode": reason}]}

    return handler
