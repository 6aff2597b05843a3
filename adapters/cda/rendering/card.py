"""What the header of a document says, in lines for a person; and its sections as a list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from adapters.cda.document import Document
from adapters.cda.header import INS_ROOTS
from adapters.cda.structure import V3
from adapters.cda.validation.places import line_of

TEXT_MAX = 300
PEOPLE_MAX = 20
SECTIONS_MAX = 2_000
_TIME = re.compile(
    r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})([0-9]{2})?(?:[0-9]{2}(?:\.[0-9]+)?)?)?)?)?"
    r"([+-][0-9]{4})?", re.ASCII,
)  # fmt: skip
_SEXES = {"F": "Féminin", "M": "Masculin", "UN": "Indéterminé", "U": "Inconnu"}
_CONFIDENTIALITY = {"N": "Normale", "R": "Restreinte", "V": "Très restreinte"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The header in words. ``patient`` is the name as it is to be read; every list is short."""

    title: str
    kind: str
    date: str
    patient: str
    birth_name: str
    born: str
    sex: str
    identifiers: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    form: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionLine:
    """One section: ``depth`` from 0, ``number`` in document order from 1."""

    depth: int
    number: int
    title: str
    code: str
    entries: int
    line: int
    element: etree._Element


def _v3(path: str) -> str:
    return "/".join(f"{{{V3}}}{step}" for step in path.split("/"))


def _text(element: etree._Element | None) -> str:
    if element is None:
        return ""
    words = " ".join("".join(str(each) for each in element.itertext()).split())
    return words if len(words) <= TEXT_MAX else words[: TEXT_MAX - 1] + "…"


def _short(value: str) -> str:
    words = " ".join(value.split())
    return words if len(words) <= TEXT_MAX else words[: TEXT_MAX - 1] + "…"


def instant(value: str) -> str:
    """A time of HL7 v3 as French software writes it: ``03/04/2024 à 09:30``."""
    found = _TIME.fullmatch(value.strip())
    if found is None:
        return _short(value)
    year, month, day, hour, minute, zone = found.groups()
    date = "/".join(part for part in (day, month, year) if part)
    if not hour:
        return date
    shown = f" (UTC{zone[:3]}:{zone[3:]})" if zone else ""
    return f"{date} à {hour}:{minute or '00'}{shown}"


def _time(element: etree._Element | None) -> str:
    if element is None:
        return ""
    value = element.get("value")
    if value:
        return instant(value)
    low, high = element.find(_v3("low")), element.find(_v3("high"))
    begin, end = _time(low), _time(high)
    return f"{begin} – {end}" if begin and end else begin or end


def person_name(name: etree._Element | None) -> str:
    """``DR Jean DUPONT``: prefix, given names, family name, as they stand."""
    if name is None:
        return ""
    if len(name) == 0:
        return _text(name)
    prefix = [_text(each) for each in name.iterfind(_v3("prefix"))]
    prefix += [_text(each) for each in name.iterfind(_v3("suffix"))]
    return " ".join(each for each in (*prefix, *_given(name), *_family(name)) if each)


def _given(name: etree._Element) -> list[str]:
    every = name.findall(_v3("given"))
    used = [each for each in every if "CL" in (each.get("qualifier") or "").split()]
    first = [each for each in every if "BR" in (each.get("qualifier") or "").split()]
    return [_text(each) for each in (used or first or every)]


def _family(name: etree._Element) -> list[str]:
    every = name.findall(_v3("family"))
    used = [each for each in every if "CL" in (each.get("qualifier") or "").split()]
    return [_text(each).upper() for each in (used or every[:1])]


def _display(element: etree._Element | None) -> str:
    if element is None:
        return ""
    original = _text(element.find(_v3("originalText")))
    return _short(element.get("displayName") or original or element.get("code") or "")


def read_card(document: Document) -> Card:
    """The header of a document; what it does not say is empty."""
    root = document.root
    patient = root.find(_v3("recordTarget/patientRole/patient"))
    name = patient.find(_v3("name")) if patient is not None else None
    birth_place = _text(patient.find(_v3("birthplace/place/addr"))) if patient is not None else ""
    born = _time(patient.find(_v3("birthTime"))) if patient is not None else ""
    sex = patient.find(_v3("administrativeGenderCode")) if patient is not None else None
    code = (sex.get("code") or "") if sex is not None else ""
    return Card(
        title=_text(root.find(_v3("title"))) or "Document sans titre",
        kind=_display(root.find(_v3("code"))),
        date=_time(root.find(_v3("effectiveTime"))),
        patient=person_name(name) or "Patient sans nom",
        birth_name=next(
            (_text(each) for each in (name.iterfind(_v3("family")) if name is not None else ())
             if "BR" in (each.get("qualifier") or "").split()), "",
        ),
        born=f"{born}, {birth_place}" if born and birth_place else born,
        sex=_SEXES.get(code, _short(code)),
        identifiers=tuple(_identifiers(root)),
        facts=tuple((label, value) for label, value in _facts(root) if value),
        form={"self-presenting": "auto-présentable", "signed": "signé"}.get(document.form, ""),
    )  # fmt: skip


def _identifiers(root: etree._Element) -> Iterator[tuple[str, str]]:
    for number, own in enumerate(root.iterfind(_v3("recordTarget/patientRole/id"))):
        if number >= PEOPLE_MAX:
            return
        issuer = own.get("root") or ""
        label = "INS" if issuer in INS_ROOTS else _short(issuer)
        yield label, _short(own.get("extension") or "")


def _facts(root: etree._Element) -> Iterator[tuple[str, str]]:
    for author in root.findall(_v3("author"))[:PEOPLE_MAX]:
        yield "Auteur", _who(author.find(_v3("assignedAuthor")), _time(author.find(_v3("time"))))
    signer = root.find(_v3("legalAuthenticator"))
    if signer is not None:
        yield (
            "Responsable",
            _who(signer.find(_v3("assignedEntity")), _time(signer.find(_v3("time")))),
        )
    for each in root.findall(_v3("authenticator"))[:PEOPLE_MAX]:
        yield "Validé par", _who(each.find(_v3("assignedEntity")), _time(each.find(_v3("time"))))
    yield (
        "Conservé par",
        _text(root.find(_v3("custodian/assignedCustodian/representedCustodianOrganization/name"))),
    )
    for each in root.findall(_v3("informationRecipient/intendedRecipient"))[:PEOPLE_MAX]:
        person = person_name(each.find(_v3("informationRecipient/name")))
        where = _text(each.find(_v3("receivedOrganization/name")))
        yield "Destinataire", ", ".join(part for part in (person, where) if part)
    for each in root.findall(_v3("documentationOf/serviceEvent"))[:PEOPLE_MAX]:
        what, when = _display(each.find(_v3("code"))), _time(each.find(_v3("effectiveTime")))
        yield "Acte", ", ".join(part for part in (what, when) if part)
    encounter = root.find(_v3("componentOf/encompassingEncounter"))
    if encounter is not None:
        where = _text(encounter.find(_v3("location/healthCareFacility/location/name")))
        parts = (_display(encounter.find(_v3("code"))), where,
                 _time(encounter.find(_v3("effectiveTime"))))  # fmt: skip
        yield "Prise en charge", ", ".join(part for part in parts if part)
    yield from _identity(root)


def _identity(root: etree._Element) -> Iterator[tuple[str, str]]:
    yield "Document", _identifier(root.find(_v3("id")))
    version = root.find(_v3("versionNumber"))
    yield "Version", _short(version.get("value") or "") if version is not None else ""
    for each in root.findall(_v3("relatedDocument"))[:PEOPLE_MAX]:
        label = {"RPLC": "Remplace", "APND": "Complète"}.get(each.get("typeCode") or "", "Issu de")
        yield label, _identifier(each.find(_v3("parentDocument/id")))
    confidential = root.find(_v3("confidentialityCode"))
    code = (confidential.get("code") or "") if confidential is not None else ""
    yield "Confidentialité", _CONFIDENTIALITY.get(code, _display(confidential))


def _identifier(own: etree._Element | None) -> str:
    if own is None:
        return ""
    return _short("^".join(part for part in (own.get("root"), own.get("extension")) if part))


def _who(role: etree._Element | None, when: str) -> str:
    if role is None:
        return ""
    name = person_name(role.find(_v3("assignedPerson/name")))
    device = _text(role.find(_v3("assignedAuthoringDevice/softwareName")))
    where = _text(role.find(_v3("representedOrganization/name")))
    parts = (name or device, _display(role.find(_v3("code"))), where, when)
    return ", ".join(part for part in parts if part)


def sections(document: Document) -> Iterator[SectionLine]:
    """Every section of a structured body, in its order, at most ``SECTIONS_MAX``."""
    body = document.root.find(_v3("component/structuredBody"))
    if body is None:
        return
    waiting = [(0, each) for each in reversed(body.findall(_v3("component/section")))]
    number = 0
    while waiting and number < SECTIONS_MAX:
        depth, section = waiting.pop()
        number += 1
        code = section.find(_v3("code"))
        yield SectionLine(
            depth=depth, number=number,
            title=_text(section.find(_v3("title"))) or _display(code) or "Section sans titre",
            code=_short(code.get("code") or "") if code is not None else "",
            entries=len(section.findall(_v3("entry"))), line=line_of(section), element=section,
        )  # fmt: skip
        waiting += [
            (depth + 1, each) for each in reversed(section.findall(_v3("component/section")))
        ]
