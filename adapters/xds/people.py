"""People and institutions of a document as HL7 v2 data types, which XDS has for them.

ITI TF-3 table 4.2.3.1.7-2: XCN for persons, XON for organizations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.documents import SharedDocument


def author_texts(document: SharedDocument) -> tuple[list[str], list[str]]:
    """A document's authors: people as XCN, institutions as XON (ITI TF-3 table 4.2.3.1.7-2)."""
    people, houses = [], []
    for reference in document.resource.get("author") or ():
        if reference.get("type") == "Organization":
            houses.append(house_text(reference, document.named))
        else:
            people.append(person_text(reference, document.named))
    return people, houses


def person_text(reference: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> str:
    """A person as XCN."""
    identifier = reference.get("identifier") or {}
    root = str(identifier.get("system", "")).removeprefix("urn:oid:")
    known = named.get(str(reference.get("reference", "")), {})
    names = known.get("name") or ()
    name = names[0] if names and isinstance(names[0], dict) else {}
    family = str(name.get("family") or "")
    given = " ".join(str(each) for each in name.get("given") or ())
    prefix = " ".join(str(each) for each in name.get("prefix") or ())
    display = str(reference.get("display") or "")
    if not family or (display and family not in display):
        # The entry of the person may have been given another name since: the document's counts.
        family, given, prefix = display or family, "", ""
    authority = f"&{root}&ISO" if root else ""
    fields = [identifier.get("value", ""), family, given, "", "", prefix, "", "", authority]
    return "^".join(_plain(str(each), place == 8) for place, each in enumerate(fields)).rstrip("^")


def house_text(reference: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> str:
    """An institution as XON."""
    identifier = reference.get("identifier") or {}
    root = str(identifier.get("system", "")).removeprefix("urn:oid:")
    known = named.get(str(reference.get("reference", "")), {})
    name = str(known.get("name") or reference.get("display") or "")
    value = str(identifier.get("value", ""))
    if not (root and value):
        return _plain(name)
    return f"{_plain(name)}^^^^^&{root}&ISO^^^^{_plain(value)}"


def _plain(text: str, authority: bool = False) -> str:
    """A text without what separates the parts of an HL7 v2 data type."""
    return text if authority else "".join(" " if each in "^&|~\\" else each for each in text)
