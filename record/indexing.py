"""What a search must know of a resource, taken out of it when it is stored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache
from typing import Any

from record.instants import UNDATED, element_span
from record.parameters import parameters_of
from record.tables import IDENTIFIER_MAX, NAME_MAX

Resource = Mapping[str, Any]
TOKENS_CHARACTERS_MAX = 100_000
"""What the index keeps of one resource; the resource itself is kept whole."""

_PATIENT_ELEMENTS = (
    *((name, f"{name}.reference") for name in ("subject", "patient", "beneficiary", "for")),
    ("participant", "participant.actor.reference"),
)
_BINARY = "Binary/"
_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class AttachmentNote:
    """An attachment of a resource whose bytes are in the blob store."""

    sha256: str
    media_type: str
    title: str


@dataclass(frozen=True, slots=True)
class Indexed:
    """All that is indexed of one resource. ``tokens`` as :func:`token` writes them."""

    tokens: str
    low: int
    high: int
    identifiers: frozenset[tuple[str, str]]
    attachments: tuple[AttachmentNote, ...]
    replaces: frozenset[str]
    personal: bool


def index(resource: Resource, text: str, zone: tzinfo) -> Indexed:
    """Take out of a resource what searches look at. Pure; never fails on odd content.

    ``text`` is its JSON, from which can be told at once that it has no attachment.
    """
    plan = _plan(resource["resourceType"])
    span = None
    for head, path in plan.dates:
        if span is None and head in resource:
            values = (element_span(value, zone) for value in at(resource, path))
            span = next((found for found in values if found), None)
    return Indexed(
        tokens=_tokens(resource, plan),
        low=span[0] if span else UNDATED,
        high=span[1] if span else UNDATED,
        identifiers=frozenset(
            (cut(value, IDENTIFIER_MAX), cut(system, IDENTIFIER_MAX))
            for head, path in plan.identifiers
            if head in resource
            for system, value in _identifiers(at(resource, path))
        ),
        attachments=tuple(attachments(resource, text)),
        replaces=frozenset(_replaced(resource)),
        personal=is_personal(resource),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where to look in one type: (first element, path), with the parameter before it where
    one is told from the other."""

    dates: tuple[tuple[str, str], ...]
    identifiers: tuple[tuple[str, str], ...]
    tokens: tuple[tuple[str, str, str], ...]
    names: tuple[tuple[str, str, str], ...]


@lru_cache(maxsize=256)
def _plan(type_name: str) -> _Plan:
    parameters = parameters_of(type_name)

    def placed(paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
        return tuple((path.partition(".")[0], path) for path in paths)

    def named(found: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, str, str], ...]:
        return tuple((name, *place) for name, paths in found.items() for place in placed(paths))

    return _Plan(
        dates=placed(parameters.date[1]) if parameters.date else (),
        identifiers=placed(parameters.identifiers),
        tokens=named(parameters.tokens),
        names=named(parameters.names),
    )


def is_personal(resource: Resource) -> bool:
    """Whether a resource is about one patient, so that it can be in one record only."""
    if resource["resourceType"] in ("Patient", "Provenance"):
        return True
    return any(
        isinstance(reference, str) and reference.startswith("Patient/")
        for head, path in _PATIENT_ELEMENTS
        if head in resource
        for reference in at(resource, path)
    )


def token(parameter: str, value: str) -> str:
    """One token as it stands in the index and as a search looks for it."""
    return f"\n{parameter}={value}\n"


def name_prefix(parameter: str, value: str) -> str:
    """The beginning of a name as a search looks for it (any case, any accents)."""
    return f"\n{parameter}^{folded(value)}"


def folded(text: str) -> str:
    """A name without case, accents and repeated spaces, as R4 compares strings."""
    kept = text.casefold()
    if not kept.isascii():
        plain = unicodedata.normalize("NFKD", kept)
        kept = "".join(char for char in plain if not unicodedata.combining(char))
    return " ".join(clean(kept).split())


def clean(text: str) -> str:
    """A text that can stand in a token and in any database: no control characters."""
    return text if text.isprintable() else _CONTROL.sub(" ", text)


def cut(text: str, length: int) -> str:
    """A text that fits its column."""
    return clean(text)[:length]


def at(value: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path, through any arrays."""
    head, _, rest = path.partition(".")
    if isinstance(value, list):
        for item in value:
            yield from at(item, path)
    elif isinstance(value, dict) and head in value:
        found = value[head]
        if rest:
            yield from at(found, rest)
        elif isinstance(found, list):
            yield from found
        else:
            yield found


def _tokens(resource: Resource, plan: _Plan) -> str:
    found: dict[str, None] = {}
    for name, head, path in plan.tokens:
        if head in resource:
            for value in at(resource, path):
                found.update(dict.fromkeys(_codes(name, value)))
    for name, head, path in plan.names:
        if head in resource:
            for value in at(resource, path):
                if isinstance(value, str):
                    found[f"\n{name}^{folded(value)}\n"] = None
    joined = "".join(found)
    if len(joined) <= TOKENS_CHARACTERS_MAX:
        return joined
    return joined[: joined.rindex("\n", 0, TOKENS_CHARACTERS_MAX) + 1]


def _codes(name: str, value: Any) -> Iterator[str]:
    """The tokens of a code, Coding or CodeableConcept."""
    if isinstance(value, bool):
        yield token(name, "true" if value else "false")
    elif isinstance(value, str):
        yield token(name, clean(value))
    elif isinstance(value, dict):
        for coding in value["coding"] if isinstance(value.get("coding"), list) else (value,):
            if isinstance(coding, dict):
                system, code = coding.get("system"), coding.get("code")
                yield from _coding(
                    name,
                    system if isinstance(system, str) else None,
                    code if isinstance(code, str) else None,
                )


@lru_cache(maxsize=4096)
def _coding(name: str, system: str | None, code: str | None) -> tuple[str, ...]:
    """A coding in every form that a token search may take: ``code``, ``system|code``,
    ``|code`` (one without system) and ``system|``."""
    forms = []
    if code is not None:
        forms += [code, f"{system or ''}|{code}"]
    if system is not None:
        forms.append(f"{system}|")
    return tuple(token(name, clean(form)) for form in forms)


def _identifiers(values: Iterator[Any]) -> Iterator[tuple[str, str]]:
    for value in values:
        if isinstance(value, dict) and isinstance(value.get("value"), str):
            system = value.get("system")
            yield system if isinstance(system, str) else "", value["value"]


def attachments(resource: Resource, text: str) -> Iterator[AttachmentNote]:
    """Every Attachment, at any depth, whose URL names bytes of the blob store."""
    stack: list[Any] = [resource] if _BINARY in text else []
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            url, media = item.get("url"), item.get("contentType")
            if isinstance(url, str) and isinstance(media, str) and is_binary(url):
                title = item.get("title")
                yield AttachmentNote(
                    url.removeprefix(_BINARY),
                    cut(media, NAME_MAX),
                    clean(title) if isinstance(title, str) else "",
                )
            stack.extend(child for child in item.values() if isinstance(child, (list, dict)))


def is_binary(url: str) -> bool:
    """Whether a relative URL names bytes by their SHA-256."""
    digest = url.removeprefix(_BINARY)
    return url.startswith(_BINARY) and is_digest(digest)


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 in lower-case hex."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def _replaced(resource: Resource) -> Iterator[str]:
    """The documents that a document takes the place of, while it stands itself."""
    if resource["resourceType"] != "DocumentReference":
        return
    if resource.get("status") == "entered-in-error":
        return
    for relation in at(resource, "relatesTo"):
        if isinstance(relation, dict) and relation.get("code") == "replaces":
            for reference in at(relation, "target.reference"):
                if isinstance(reference, str) and reference.startswith("DocumentReference/"):
                    yield reference.partition("/_history/")[0]
