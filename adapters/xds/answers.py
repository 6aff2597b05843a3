"""What the transactions answer: registry responses with their error lists.

ITI TF-3 section 4.2.4 (success and error reporting), ITI TF-2 sections 3.18.4.2 and 3.43.4.2;
ebRS 3.0 for the elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lxml import etree

from adapters.ebrim.names import QUERY, RIM, RS

XDS = "urn:ihe:iti:xds-b:2007"
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
PARTIAL = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
_SEVERITY = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:"
_XOP = "http://www.w3.org/2004/08/xop/include"
CONTEXT_MAX = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One RegistryError. ``code`` is of ITI TF-3 table 4.2.4.1-2; ``context`` a sentence, which
    may repeat the sender's own values to it; ``location`` the place in the request."""

    code: str
    context: str
    location: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """One document of an answer to ITI-43. ``part`` is the Content-ID of its bytes."""

    repository: str
    unique_id: str
    media_type: str
    part: str
    home: str = ""


def status_of(problems: Sequence[Problem], *, some: bool = False) -> str:
    """Success without an error; PartialSuccess when ``some`` of what was asked for is there."""
    if all(each.warning for each in problems):
        return SUCCESS
    return PARTIAL if some else FAILURE


def registry_response(problems: Sequence[Problem], status: str = "") -> etree._Element:
    """``rs:RegistryResponse``."""
    element = etree.Element(f"{{{RS}}}RegistryResponse", nsmap={"rs": RS})
    element.set("status", status or status_of(problems))
    _errors(element, problems)
    return element


def query_response(
    objects: Iterable[etree._Element], problems: Sequence[Problem] = ()
) -> etree._Element:
    """``query:AdhocQueryResponse``. The list of objects is there even when it is empty."""
    element = etree.Element(
        f"{{{QUERY}}}AdhocQueryResponse", nsmap={"query": QUERY, "rim": RIM, "rs": RS}
    )
    element.set("status", status_of(problems))
    _errors(element, problems)
    found = etree.SubElement(element, f"{{{RIM}}}RegistryObjectList")
    for each in objects:
        found.append(each)
    return element


def retrieve_response(documents: Sequence[Fetched], problems: Sequence[Problem]) -> etree._Element:
    """``RetrieveDocumentSetResponse``; each document's bytes are a part of the package."""
    element = etree.Element(f"{{{XDS}}}RetrieveDocumentSetResponse", nsmap={"ihe": XDS, "rs": RS})
    element.append(registry_response(problems, status_of(problems, some=bool(documents))))
    for each in documents:
        one = etree.SubElement(element, f"{{{XDS}}}DocumentResponse")
        if each.home:
            etree.SubElement(one, f"{{{XDS}}}HomeCommunityId").text = each.home
        etree.SubElement(one, f"{{{XDS}}}RepositoryUniqueId").text = each.repository
        etree.SubElement(one, f"{{{XDS}}}DocumentUniqueId").text = each.unique_id
        etree.SubElement(one, f"{{{XDS}}}mimeType").text = each.media_type
        content = etree.SubElement(one, f"{{{XDS}}}Document")
        include = etree.SubElement(content, f"{{{_XOP}}}Include", nsmap={"xop": _XOP})
        include.set("href", f"cid:{each.part}")
    return element


def _errors(element: etree._Element, problems: Sequence[Problem]) -> None:
    if not problems:
        return
    found = etree.SubElement(element, f"{{{RS}}}RegistryErrorList")
    worst = "Warning" if all(each.warning for each in problems) else "Error"
    found.set("highestSeverity", f"{_SEVERITY}{worst}")
    for each in problems:
        one = etree.SubElement(found, f"{{{RS}}}RegistryError")
        one.set("errorCode", each.code)
        one.set("codeContext", _printable(each.context))
        one.set("location", _printable(each.location))
        one.set("severity", f"{_SEVERITY}{'Warning' if each.warning else 'Error'}")


def _printable(text: str) -> str:
    """What XML can carry, in one line."""
    return "".join(each if each.isprintable() else " " for each in text)[:CONTEXT_MAX]
