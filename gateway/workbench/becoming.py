"""What became of the values at a place of the message: where they went, or why nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.inventory import Inventory, Leaf, LeafKey
from gateway.mapping.observing import Answered, Asked, Entered, Event, Instance, Readout, Ruled
from gateway.model import Format
from gateway.ports import PathError, Value, ValueState
from gateway.workbench.elements import NoTarget
from gateway.workbench.examining import Examined, Part
from gateway.workbench.happenings import Outcome, readouts
from gateway.workbench.retention import Fate, Use, settle

_Places = dict[LeafKey, dict["Looked", None]]

EVERYTHING = "*"
"""In the place of a path: every value of the message."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A condition or a path that looked at a value, and its ``file:line:col``."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class Became:
    """One value of the message, by its place, and what became of it.

    ``uses`` are the elements that it went to, or what it decided, of a value that is mapped;
    ``reason`` is that of the ``ignore:`` that leaves it out. A value that is lost has neither.
    ``asked`` are the conditions that looked at it, whatever became of it; ``read`` the paths
    of rules that read it and of which nothing came, of a value that is lost. (A path that
    chooses among repetitions, ``PID-11(7=H)``, is neither.) ``document`` is the place of the
    document inside the message in which the value stands, empty for the message itself.
    """

    path: str
    fate: Fate
    uses: tuple[Use, ...] = ()
    reason: str = ""
    asked: tuple[Looked, ...] = ()
    read: tuple[Looked, ...] = ()
    document: str = ""


def what_became(
    examined: Examined, inventories: Mapping[Format, Inventory], path: str = EVERYTHING
) -> Iterator[Became]:
    """What became of the values at a path or below it, in the order of the message.

    ``PID-5``, ``OBX(2)-5.1``, ``ClinicalDocument/recordTarget``, ``StudyDate``: as ``ignore:``
    writes it, or as an explanation shows it. Of documents inside the message theirs too.
    Nothing where no value stands. Raises NoTarget for what is no path of the format.
    """
    outcome = Outcome(examined)
    for part in examined.parts:
        inventory = inventories[part.format]
        covers = _covers(part, inventory, path)
        asked, read = _looked(part, inventory)
        for settled in settle(part, outcome, inventory):
            leaf, fate = settled.leaf, settled.fate
            if covers is None or covers(leaf) or path in (leaf.path, leaf.generic):
                yield Became(
                    path=leaf.path,
                    fate=fate,
                    uses=settled.uses,
                    reason=settled.reason,
                    asked=_at(leaf, asked),
                    read=_at(leaf, read) if fate is Fate.LOST else (),
                    document=part.source,
                )


def _at(leaf: Leaf, looked: _Places) -> tuple[Looked, ...]:
    """What looked at a leaf, by itself or in a value around it of which it is the text."""
    lengths = range(leaf.heard, len(leaf.key) + 1)
    return tuple(dict.fromkeys(each for n in lengths for each in looked.get(leaf.key[:n], ())))


def _covers(part: Part, inventory: Inventory, path: str) -> Callable[[Leaf], bool] | None:
    if path == EVERYTHING:
        return None
    try:
        return inventory.covers(path, part.root)
    except PathError as wrong:
        if part.source:  # a path of the message is none of a document in it
            return _nothing
        hint = f"; did you mean {wrong.suggestion}?" if wrong.suggestion else ""
        raise NoTarget(f"{wrong}{hint}") from None


def _nothing(_leaf: Leaf) -> bool:
    return False


def _looked(part: Part, inventory: Inventory) -> tuple[_Places, _Places]:
    """The conditions that were asked and the paths of rules, by the places that they looked at."""
    asked: _Places = {}
    read: _Places = {}
    waiting: list[Event] = list(reversed(part.watch.events))
    while waiting:
        event = waiting.pop()
        if isinstance(event, Asked):
            looked, kept, readings = Looked(event.text, str(event.place)), asked, readouts([event])
        elif isinstance(event, Readout):
            looked, kept, readings = Looked(event.path, str(event.place)), read, iter((event,))
        else:
            if isinstance(event, Entered | Instance | Ruled | Answered):
                waiting.extend(reversed(event.events))
            continue
        for value in (value for each in readings for value in _said(each.values)):
            for key in inventory.places(value.path, part.root):
                kept.setdefault(key, {})[looked] = None
    return asked, read


def _said(values: Sequence[Value]) -> list[Value]:
    """The values that stand there: a null says something, too (HL7 v2: delete it)."""
    return [value for value in values if value.state in (ValueState.PRESENT, ValueState.NULL)]
