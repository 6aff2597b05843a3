"""Short ways to read a message in tests."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.hl7.language import Hl7Language, Hl7Reader
from gateway.model import Payload
from gateway.ports import CompiledPath, Scope, Value, ValueState

LANGUAGE = Hl7Language()
VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6")


def root(text: str, **how: str) -> Scope:
    """The root scope of a message written with line ends."""
    return Hl7Reader().read([Payload.from_bytes(text.strip().replace("\n", "\r").encode())], **how)


def compiled(
    path: str, versions: Sequence[str] = VERSIONS, within: object | None = None
) -> CompiledPath:
    kind = within if within is not None else LANGUAGE.root(versions)
    return LANGUAGE.path(path, versions=versions, within=kind)


def values(scope: Scope, path: str, within: object | None = None) -> Sequence[Value]:
    return compiled(path, within=within).read(scope)


def texts(scope: Scope, path: str, within: object | None = None) -> list[str]:
    return [value.text for value in values(scope, path, within)]


def state(scope: Scope, path: str, within: object | None = None) -> ValueState:
    [value] = values(scope, path, within)
    return value.state


def each(scope: Scope, within: object | None = None, **spec: str) -> tuple[list[Scope], object]:
    """The scopes that an ``each:`` walks, and their kind."""
    kind = within if within is not None else LANGUAGE.root(VERSIONS)
    made = LANGUAGE.scope(spec, versions=VERSIONS, within=kind)
    return list(made.walk(scope)), made.kind
