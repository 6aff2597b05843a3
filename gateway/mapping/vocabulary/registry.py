"""The closed vocabulary of text conversions, by the name that ``as:`` uses.

A new conversion is added here with its FHIR types, whether it can fail, its
documentation (``docs/mapping.md``) and its tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.mapping.running import Run
from gateway.mapping.vocabulary import durations, narratives, numbers, texts, times


@dataclass(frozen=True, slots=True)
class TextConversion:
    """A conversion of one text.

    Exactly one of ``plain`` (text only) and ``convert`` (text and run: the zone, the
    authorities, notes) is set. ``why`` says what makes it fallible; empty when it
    cannot fail.
    """

    name: str
    types: tuple[str, ...]
    why: str
    plain: Callable[[str], Any] | None = None
    convert: Callable[[str, Run], Any] | None = None

    @property
    def verbatim(self) -> bool:
        """Whether it takes a text as it is wherever ``texts.is_verbatim`` says so."""
        return self.convert is _string


def _string(text: str, run: Run) -> str | None:
    if texts.is_verbatim(text):
        return text
    clean, note = texts.cleaned(text)
    if note:
        run.pending.append(note)
    return clean


def _decimal(text: str, run: Run) -> str:
    number, note = numbers.decimal(text)
    if note:
        run.pending.append(note)
    return number


def _date(text: str, run: Run) -> str:
    found, note = times.date(text)
    if note:
        run.pending.append(note)
    return found


def _date_time(text: str, run: Run) -> str:
    found, note = times.date_time(text, run.zone)
    if note:
        run.pending.append(note)
    return found


def _instant(text: str, run: Run) -> str:
    found, note = times.instant(text, run.zone)
    if note:
        run.pending.append(note)
    return found


def _later(text: str, run: Run) -> str:
    found, note = durations.later(text, run.zone)
    if note:
        run.pending.append(note)
    return found


def _time(text: str, run: Run) -> str:
    found, note = times.time(text)
    if note:
        run.pending.append(note)
    return found


def _identifier_system(text: str, run: Run) -> str | None:
    return texts.identifier_system(text, run.authorities)


def _default_authority(_text: str, run: Run) -> str | None:
    return texts.universal(run.authorities.get("", ""))


def _code_system(text: str, run: Run) -> str | None:
    return texts.code_system(text, run.source)


_DATE = "the text may be no date"
_NUMBER = "the text may be no number"
_URI = "the text may hold blanks"

CONVERSIONS: dict[str, TextConversion] = {
    entry.name: entry
    for entry in (
        TextConversion("string", ("string",), "", convert=_string),
        TextConversion("markdown", ("markdown",), "", convert=_string),
        TextConversion("code", ("code",), "", plain=texts.code),
        TextConversion("id", ("id",), "the text may be no id", plain=texts.identifier),
        TextConversion("uri", ("uri",), _URI, plain=texts.uri),
        TextConversion("url", ("url",), _URI, plain=texts.uri),
        TextConversion("canonical", ("canonical",), _URI, plain=texts.uri),
        TextConversion("oid", ("oid",), "the text may be no OID", plain=texts.oid),
        TextConversion("uuid", ("uuid",), "the text may be no UUID", plain=texts.uuid),
        TextConversion(
            "boolean", ("boolean",), "the text may be neither yes nor no", plain=texts.boolean
        ),
        TextConversion("integer", ("integer",), _NUMBER, plain=texts.integer),
        TextConversion(
            "positiveInt", ("positiveInt",), _NUMBER, plain=lambda text: texts.integer(text, 1)
        ),
        TextConversion(
            "unsignedInt", ("unsignedInt",), _NUMBER, plain=lambda text: texts.integer(text, 0)
        ),
        TextConversion("decimal", ("decimal",), _NUMBER, convert=_decimal),
        TextConversion("date", ("date",), _DATE, convert=_date),
        TextConversion("dateTime", ("dateTime",), _DATE, convert=_date_time),
        TextConversion("instant", ("instant",), _DATE, convert=_instant),
        TextConversion(
            "LaterInstant", ("instant", "dateTime"), "a part of the sum may be missing",
            convert=_later,
        ),
        TextConversion("time", ("time",), "the text may be no time", convert=_time),
        TextConversion(
            "base64Binary", ("base64Binary",), "the text may be no Base64",
            plain=texts.base64_binary,
        ),
        TextConversion(
            "xhtml", ("xhtml",), "the text may be no narrative that R4 takes",
            plain=narratives.xhtml,
        ),
        TextConversion("IdentifierSystem", ("uri",), "", convert=_identifier_system),
        TextConversion("DefaultAuthority", ("uri",), "", convert=_default_authority),
        TextConversion("UniversalUri", ("uri",), "", plain=texts.universal),
        TextConversion("CodeSystemUri", ("uri",), "", convert=_code_system),
    )
}  # fmt: skip

FAMILIES: dict[str, tuple[str, ...]] = {
    "string": ("markdown", "code", "id"),
    "code": ("string", "id"),
    "uri": ("url", "canonical", "string", "code"),
    "oid": ("uri", "string"),
    "uuid": ("uri", "string"),
    "positiveInt": ("integer", "unsignedInt"),
    "unsignedInt": ("integer",),
}
"""Other FHIR primitives for which a conversion's result is right as well."""
