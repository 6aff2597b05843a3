"""The conditions of stored queries (ITI TF-2 section 3.18.4.1.2.3.7)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from adapters.ebrim.names import STABLE_DOCUMENT
from adapters.xds.entries import Registered
from adapters.xds.queries import Query, earliest

ENTRY = "$XDSDocumentEntry"
_CODES = {
    "ClassCode": "classCode",
    "TypeCode": "typeCode",
    "PracticeSettingCode": "practiceSettingCode",
    "HealthcareFacilityTypeCode": "healthcareFacilityTypeCode",
    "EventCodeList": "eventCodeList",
    "ConfidentialityCode": "confidentialityCode",
    "FormatCode": "formatCode",
}
_TIMES = ("creationTime", "serviceStartTime", "serviceStopTime")
Codes = Iterable[tuple[str, str]]
"""Codes with their schemes."""


def matching(query: Query) -> Callable[[Registered], bool]:
    """The conditions of FindDocuments and FindDocumentsByReferenceId, but for the authors.
    Raises QueryRefused."""
    statuses = set(query.needed(f"{ENTRY}Status"))
    conditions: list[Callable[[Registered], bool]] = [lambda one: one.status in statuses]
    conditions += [coded_as(query, name) for name in _CODES if query.every(f"{ENTRY}{name}")]
    conditions += [each for name in _TIMES if (each := _during(query, name)) is not None]
    references = query.every(f"{ENTRY}ReferenceIdList")
    if references:
        conditions.append(
            lambda one: all(any(each in one.facts.references for each in slot)
                            for slot in references)
        )  # fmt: skip
    if not of_stable(query):
        conditions.append(lambda _: False)
    return lambda one: all(condition(one) for condition in conditions)


def of_stable(query: Query) -> bool:
    """Whether stable documents are asked for: there are no others."""
    kinds = query.values(f"{ENTRY}Type")
    return not kinds or STABLE_DOCUMENT in kinds


def coded_as(query: Query, name: str) -> Callable[[Registered], bool]:
    """A coded attribute of document entries."""
    attribute = _CODES[name]
    holds = coded(query, f"{ENTRY}{name}")
    return lambda one: holds(
        (each.code.code, each.code.scheme) for each in one.facts.codes[attribute]
    )


def coded(query: Query, parameter: str) -> Callable[[Codes], bool]:
    """Codes as ``code^^scheme``; each slot must hold, by one of its values."""
    wanted = [
        [each.partition("^^")[::2] for each in slot] for slot in query.every(parameter)
    ]  # fmt: skip

    def holds(codes: Codes) -> bool:
        has = set(codes)
        plain = {code for code, _ in has}
        return all(
            any((code, scheme) in has if scheme else code in plain for code, scheme in slot)
            for slot in wanted
        )

    return holds


def during(query: Query, stem: str) -> Callable[[str], bool] | None:
    """From is included, To is not (3.18.4.1.2.3.7.1). What has no such time is not found. None
    where nothing is asked. Raises QueryRefused."""
    first, last = query.time(f"{stem}From"), query.time(f"{stem}To")
    if not first and not last:
        return None

    def holds(digits: str) -> bool:
        return bool(digits) and first <= earliest(digits) and (not last or earliest(digits) < last)

    return holds


def _during(query: Query, name: str) -> Callable[[Registered], bool] | None:
    within = during(query, f"{ENTRY}{name[0].upper()}{name[1:]}")
    if within is None:
        return None
    holds = within
    return lambda one: holds(one.facts.times.get(name, ""))


def written_by(patterns: Sequence[str], people: Collection[str]) -> bool:
    """Whether one of these authors is like one of these patterns."""
    return any(like(pattern, person) for person in people for pattern in patterns)


def like(pattern: str, text: str) -> bool:
    """SQL's LIKE: % any characters, _ one (3.18.4.1.2.3.5). Takes time in proportion to both,
    whatever the pattern."""
    at = place = 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "%":
            star, resume, place = place, at, place + 1
        elif place < len(pattern) and pattern[place] in ("_", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return all(each == "%" for each in pattern[place:])
