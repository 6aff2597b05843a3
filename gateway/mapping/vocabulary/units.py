"""The built-in conversion ``UcumUnit``: a text that may be a unit of UCUM."""

from __future__ import annotations

from typing import Any

from gateway.mapping.compiling import At, Compiler, Item
from gateway.mapping.conversions import COMPOUNDS, Converter
from gateway.mapping.document import Table
from gateway.mapping.running import Run
from gateway.mapping.targets import Target
from gateway.mapping.vocabulary import ucum
from gateway.ports import Scope, Value


def _build(_c: Compiler, _rule: Table, _target: Target, _at: At) -> Converter:
    return Converter(_convert, "Quantity", ("UcumUnit",), reads=(), lasting=True)


def _convert(run: Run, _scope: Scope, _item: Item, value: Value) -> dict[str, Any] | None:
    """``unit`` as it is written, with ``system`` and ``code`` when UCUM knows it.

    Anything else keeps its text and gets the flag ``unknown-code``.
    """
    text = value.text.strip()
    if not text:
        return None
    if ucum.is_unit(text):
        return {"unit": text, "system": ucum.SYSTEM, "code": text}
    run.pending.append("unknown-code")
    return {"unit": text}


COMPOUNDS["UcumUnit"] = (("Quantity",), _build)
