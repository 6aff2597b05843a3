"""What a search must know of a resource, taken out of it when it is stored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from record.instants import UNDATED, element_span
from record.parameters import parameters_of
from record.tables import IDENTIFIER_MAX, NAME_MAX
from record.withdrawing import is_withdrawn

Resource = Mapping[str, Any]
TOKENS_CHARACTERS_MAX = 100_000
"""What the index keeps of one resource; the resource itself is kept whole."""

Path = tuple[str, ...]
_PATIENT_ELEMENTS: tuple[Path, ...] = (
    *((name, "reference") for name in ("subject", "patient", "beneficiary", "for")),
    ("participant", "actor", "reference"),
)
_RELATIONS = ("relatesTo",)
_TARGETS = ("target", "reference")
_BINARY = "Binary/"
_REPLACING = "DocumentReference"
_NONE: frozenset[Any] = frozenset()
_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class AttachmentNote:
    """An attachment of a resource whose bytes are in the blob store."""

    sha256: str
    media_type: str
    title: str


class Indexed(NamedTuple):
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
    type_name = resource["resourceType"]
    plan = _plan(type_name)
    span = None
    for path in plan.dates:
        if path[0] in resource:
            for value in at(resource, path):
                span = element_span(value, zone)
                if span is not None:
                    break
            if span is not None:
                break
    return Indexed(
        _tokens(resource, plan),
        span[0] if span else UNDATED,
        span[1] if span else UNDATED,
        _all_identifiers(resource, plan),
        tuple(attachments(resource, text)) if _BINARY in text else (),
        frozenset(_replaced(resource)) if type_name == _REPLACING else _NONE,
        is_personal(resource),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where to look in one type, with the parameter where one is told from the other."""

    dates: tuple[Path, ...]
    identifiers: tuple[Path, ...]
    tokens: tuple[tuple[str, Path], ...]
    names: tuple[tuple[str, Path], ...]


@lru_cache(maxsize=256)
def _plan(type_name: str) -> _Plan:
    parameters = parameters_of(type_name)

    def placed(paths: Iterable[str]) -> tuple[Path, ...]:
        return tuple(tuple(path.split(".")) for path in paths)

    def named(found: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, Path], ...]:
        return tuple((name, path) for name, paths in found.items() for path in placed(paths))

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
    subject = resource.get("subject")  # nearly always
    if isinstance(subject, dict):
        reference = subject.get("reference")
        if isinstance(reference, str) and reference.startswith("Patient/"):
            return True
    for path in _PATIENT_ELEMENTS:
        if path[0] in resource:
            for reference in at(resource, path):
                if isinstance(reference, str) and reference.startswith("Patient/"):
                    return True
    return False


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


def at(value: Any, path: Path, place: int = 0) -> Sequence[Any]:
    """The values at a path, through any arrays."""
    if isinstance(value, dict):
        found = value.get(path[place], _NOTHING)
        if found is _NOTHING:
            return ()
        if place + 1 < len(path):
            return at(found, path, place + 1)
        return found if isinstance(found, list) else (found,)
    if isinstance(value, list):
        return [each for item in value for each in at(item, path, place)]
    return ()


_NOTHING = object()


def _tokens(resource: Resource, plan: _Plan) -> str:
    found: dict[str, None] = {}
    for name, path in plan.tokens:
        if path[0] in resource:
            for value in at(resource, path):
                _codes(found, name, value)
    for name, path in plan.names:
        if path[0] in resource:
            for value in at(resource, path):
                if isinstance(value, str):
                    found[f"\n{name}^{folded(value)}\n"] = None
    joined = "".join(found)
    if len(joined) <= TOKENS_CHARACTERS_MAX:
        return joined
    return joined[: joined.rindex("\n", 0, TOKENS_CHARACTERS_MAX) + 1]


def _codes(found: dict[str, None], name: str, value: Any) -> None:
    """Add the tokens of a code, Coding or CodeableConcept."""
    if isinstance(value, dict):
        codings = value.get("coding")
        if not isinstance(codings, list):
            codings = (value,)
        for coding in codings:
            if isinstance(coding, dict):
                system, code = coding.get("system"), coding.get("code")
                system = system if isinstance(system, str) else None
                found.update(_coding(name, system, code if isinstance(code, str) else None))
    elif isinstance(value, bool):
        found[token(name, "true" if value else "false")] = None
    elif isinstance(value, str):
        found[token(name, clean(value))] = None


@lru_cache(maxsize=4096)
def _coding(name: str, system: str | None, code: str | None) -> Mapping[str, None]:
    """A coding in every form that a token search may take, as keys: ``code``, ``system|code``,
    ``|code`` (one without system) and ``system|``."""
    forms = []
    if code is not None:
        forms += [code, f"{system or ''}|{code}"]
    if system is not None:
        forms.append(f"{system}|")
    return {token(name, clean(form)): None for form in forms}


def _all_identifiers(resource: Resource, plan: _Plan) -> frozenset[tuple[str, str]]:
    found = [
        (cut(value, IDENTIFIER_MAX), cut(system, IDENTIFIER_MAX))
        for path in plan.identifiers
        if path[0] in resource
        for system, value in _identifiers(at(resource, path))
    ]
    return frozenset(found) if found else _NONE


def _identifiers(values: Iterable[Any]) -> Iterator[tuple[str, str]]:
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
    """The documents that a document takes the place of.

    One that is deleted leaves them replaced, as in the national record: deleting sets the
    status of that document alone (DMP, transaction TD3.3c; IHE ITI TF-3 section 4.2.2.2.1
    deprecates the parent for good). One that its message never meant replaces nothing.
    """
    if resource["resourceType"] != "DocumentReference" or is_withdrawn(resource):
        return
    for relation in at(resource, _RELATIONS):
        if isinstance(relation, dict) and relation.get("code") == "replaces":
            for reference in at(relation, _TARGETS):
                if isinstance(reference, str) and reference.startswith("DocumentReference/"):
                    yield reference.partition("/_history/")[0]
