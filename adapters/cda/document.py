"""One CDA R2 document out of untrusted bytes: hardened reading and what is found there.

Entities, DTDs, network access and XInclude are off, processing instructions and
comments are dropped (the stored bytes keep them), every size is limited, and the
limits hold while the tree is being built, not afterwards.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from lxml import etree

from adapters.cda.nodes import Builder, Node, TooMuch, tree_of
from adapters.cda.prolog import (
    NotReadable,
    ascii_compatible,
    read_prolog,
    refuse_declarations,
)
from adapters.cda.structure import V3
from gateway.model import CauseCode, Payload

CLINICAL_DOCUMENT = f"{{{V3}}}ClinicalDocument"
STYLESHEET = "{http://www.w3.org/1999/XSL/Transform}stylesheet"
SIGNATURE = "{http://www.w3.org/2000/09/xmldsig#}Signature"
SIGNED_OBJECT = "{http://www.w3.org/2000/09/xmldsig#}Object"
SELF_PRESENTED = "{urn:asip-sante:ci-sis}Contenu"
_BLOCK_BYTES = 1 << 16
_HARDENED: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "huge_tree": True,
    "remove_pis": True,
    "remove_comments": True,
}
_RELEASE_2 = ("2.16.840.1.113883.1.3", "POCD_HD000040")
_ROOT_NAME_MAX = 60
NODES_BYTES_MAX = 32 << 20
"""Documents of so many bytes together may leave nodes in memory that nobody needs any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything a document may hold.

    ``bytes_max`` leaves room for a PDF of 30 MB in Base64 (40 MB). The corpus of
    the ANS has at most 3,500 elements, depth 20.
    """

    bytes_max: int = 64 << 20
    depth_max: int = 200
    elements_max: int = 500_000
    attributes_max: int = 1_000_000
    element_attributes_max: int = 200


DEFAULT_LIMITS = Limits()
CEILING = Limits(
    bytes_max=256 << 20, depth_max=400, elements_max=5_000_000, attributes_max=10_000_000
)
"""The most that any source may be configured to take; what is already kept is read with it."""


@dataclass(frozen=True, slots=True)
class Document:
    """A read document. ``payload`` has the exact bytes, ``root`` the ClinicalDocument.

    ``form`` is ``plain``, ``self-presenting`` (inside an XSL stylesheet) or
    ``signed`` (inside an enveloping XML signature); neither stylesheet nor
    signature is acted on.
    """

    payload: Payload
    root: etree._Element
    form: str
    encoding: str


def read_document(
    payload: Payload, *, encoding: str = "", limits: Limits = DEFAULT_LIMITS
) -> Document:
    """Read one CDA R2 document; ``encoding`` is what the transport said, or empty.

    Raises NotReadable, whose ``code`` tells hostile, malformed and foreign apart
    and whose ``location`` is a line, a byte or an XPath; no value is repeated.
    """
    plain, parser_encoding, said = _characters(payload, encoding, limits)
    top = _parse(plain, parser_encoding, limits)
    root, form = _clinical_document(top)
    _require_release_2(root)
    return Document(payload, root, form, said)


class _Nodes:
    """The bytes of documents whose nodes may still be in memory.

    Nodes point to one another, so that only Python's garbage collector frees them, and it counts
    objects: a document with a PDF of 30 MB is a hundred, and dozens of them would wait for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0

    def come(self, size: int) -> None:
        """Before nodes are made of a document: free those of others, after so many bytes."""
        with self._lock:
            self._bytes += size
            due = self._bytes > NODES_BYTES_MAX
            if due:
                self._bytes = size
        if due:
            gc.collect()


_NODES = _Nodes()


def read_nodes(
    payload: Payload, *, encoding: str = "", limits: Limits = DEFAULT_LIMITS
) -> tuple[Node, str]:
    """The same document as nodes for a mapping (:mod:`adapters.cda.nodes`), and its form.

    What is as usual is read without the parser's tree; all else, and whatever is refused,
    goes by :func:`read_document`. Raises what that raises.
    """
    _NODES.come(payload.size)
    root = _usual(payload, encoding, limits)
    if root is not None:
        return root, "plain"
    document = read_document(payload, encoding=encoding, limits=limits)
    return tree_of(document.root), document.form


def _usual(payload: Payload, encoding: str, limits: Limits) -> Node | None:
    """The nodes of a plain CDA R2 document that nothing is to be said against, or None."""
    plain, parser_encoding, _ = _characters(payload, encoding, limits)
    builder = Builder(
        limits.depth_max,
        limits.elements_max,
        limits.attributes_max,
        limits.element_attributes_max,
    )
    # There is no declaration, so there are no entities; told not to replace any, libxml2 hands
    # a target "&#38;" for the "&amp;" of an attribute.
    hardened = {**_HARDENED, "resolve_entities": "internal"}
    parser = etree.XMLParser(target=cast("Any", builder), encoding=parser_encoding, **hardened)
    try:
        for block in _blocks(plain):
            parser.feed(bytes(block))
        parser.close()
    except (etree.XMLSyntaxError, TooMuch):
        return None
    root = builder.every[0]
    children = root.by_tag()
    kinds, own = children.get(f"{{{V3}}}typeId", []), children.get(f"{{{V3}}}id", [])
    as_usual = (
        root.tag == CLINICAL_DOCUMENT
        and kinds
        and (kinds[0].get("root"), kinds[0].get("extension")) == _RELEASE_2
        and len(children.get(f"{{{V3}}}recordTarget", [])) <= 1
        and own
        and (own[0].get("root") or "").strip()
    )
    return root if as_usual else None


def _characters(
    payload: Payload, encoding: str, limits: Limits
) -> tuple[bytes | memoryview, str, str]:
    """The bytes for the parser, the encoding it is told, and the one that the document has."""
    if payload.size > limits.bytes_max:
        raise NotReadable(
            f"the document is larger than {limits.bytes_max} bytes",
            "",
            CauseCode.FRAME_OVERSIZED,
        )
    data = payload.read()
    if not data:
        raise NotReadable("there are no bytes", "", CauseCode.NOT_THE_FORMAT)
    prolog = read_prolog(data, encoding)
    plain, parser_encoding = ascii_compatible(data, prolog)
    refuse_declarations(plain)
    return plain, parser_encoding, prolog.encoding


def _blocks(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), _BLOCK_BYTES):
        yield view[start : start + _BLOCK_BYTES]


def _parse(data: bytes | memoryview, encoding: str, limits: Limits) -> etree._Element:
    parser = etree.XMLPullParser(events=("start", "end"), encoding=encoding, **_HARDENED)
    count = _Count(limits)
    try:
        for block in _blocks(data):
            parser.feed(bytes(block))
            count.take(parser)
        top = parser.close()
    except etree.XMLSyntaxError:
        raise _malformed(parser) from None
    count.take(parser)
    if top.getroottree().docinfo.internalDTD is not None:
        raise NotReadable(
            "a document type declaration (DTD) is not accepted", "", CauseCode.HOSTILE_CONTENT
        )
    return top


class _Count:
    """What the parser has built so far, held against the limits after every block."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.depth = self.elements = self.attributes = 0

    def take(self, parser: etree.XMLPullParser) -> None:
        limits = self.limits
        for event, element in parser.read_events():
            if event == "end" or not isinstance(element, etree._Element):
                self.depth -= 1
                continue
            self.depth += 1
            self.elements += 1
            own = len(element.attrib)
            self.attributes += own
            if self.depth > limits.depth_max:
                self._refuse(f"elements nest deeper than {limits.depth_max}", element)
            if own > limits.element_attributes_max:
                self._refuse(
                    f"an element has more than {limits.element_attributes_max} attributes", element
                )
            if self.elements > limits.elements_max:
                self._refuse(f"there are more than {limits.elements_max} elements", element)
            if self.attributes > limits.attributes_max:
                self._refuse(f"there are more than {limits.attributes_max} attributes", element)

    def _refuse(self, what: str, element: etree._Element) -> None:
        raise NotReadable(what, f"line {element.sourceline}", CauseCode.HOSTILE_CONTENT)


_CHARACTER_ERRORS = {"ERR_INVALID_ENCODING", "ERR_INVALID_CHAR", "ERR_UNSUPPORTED_ENCODING"}
_HOSTILE_ERRORS = {"ERR_RESOURCE_LIMIT", "ERR_ENTITY_LOOP", "ERR_UNDECLARED_ENTITY"}


def _malformed(parser: etree.XMLPullParser) -> NotReadable:
    """Libxml2's own sentence may quote the document, so only its code is repeated."""
    log = parser.feed_error_log
    first = next(iter(log.filter_from_fatals()), None) or next(iter(log), None)
    name = first.type_name if first is not None else "ERR_DOCUMENT_EMPTY"
    where = f"line {first.line}, column {first.column}" if first is not None else ""
    if name in _CHARACTER_ERRORS:
        return NotReadable(
            "the bytes are not in the encoding that the document declares",
            where,
            CauseCode.CHARACTER_SET,
        )
    if name in _HOSTILE_ERRORS:
        return NotReadable(
            f"the XML nests too deeply or uses entities ({name})", where, CauseCode.HOSTILE_CONTENT
        )
    return NotReadable(f"the XML is not well formed ({name})", where, CauseCode.UNREADABLE)


def _clinical_document(top: etree._Element) -> tuple[etree._Element, str]:
    """The one ClinicalDocument and the form it came in."""
    if top.tag == CLINICAL_DOCUMENT:
        return top, "plain"
    if top.tag == STYLESHEET:
        holders, form = top.iterchildren(SELF_PRESENTED), "self-presenting"
    elif top.tag == SIGNATURE:
        holders, form = top.iterchildren(SIGNED_OBJECT), "signed"
    else:
        raise NotReadable(
            f"the root element is {_shown(top)}, not a ClinicalDocument of urn:hl7-org:v3",
            "/*",
            CauseCode.NOT_THE_FORMAT,
        )
    found = [root for holder in holders for root in holder.iterchildren(CLINICAL_DOCUMENT)]
    if len(found) != 1:
        raise NotReadable(
            f"a {form} document holds exactly one ClinicalDocument, this one {len(found)}",
            "/*",
            CauseCode.NOT_THE_FORMAT,
        )
    return found[0], form


def _shown(element: etree._Element) -> str:
    name = etree.QName(element).localname
    return name if len(name) <= _ROOT_NAME_MAX else name[:_ROOT_NAME_MAX] + "…"


def _require_release_2(root: etree._Element) -> None:
    """CDA R2 fixes ``typeId`` and demands an ``id`` (section 4.2.1); here it is of one patient."""
    kind = root.find(f"{{{V3}}}typeId")
    if kind is None or (kind.get("root"), kind.get("extension")) != _RELEASE_2:
        raise NotReadable(
            "typeId does not say CDA Release 2 (2.16.840.1.113883.1.3, POCD_HD000040)",
            "/ClinicalDocument/typeId",
            CauseCode.UNSUPPORTED_VERSION if kind is not None else CauseCode.NOT_THE_FORMAT,
        )
    if sum(1 for _ in root.iterchildren(f"{{{V3}}}recordTarget")) > 1:
        # recordTarget 1..1 (CI-SIS, Structuration minimale): else one gets what is another's.
        raise NotReadable(
            "the document has several record targets, and a record is of one patient",
            "/ClinicalDocument/recordTarget[2]",
            CauseCode.UNSUPPORTED_TYPE,
        )
    own = root.find(f"{{{V3}}}id")
    if own is None or not (own.get("root") or "").strip():
        raise NotReadable(
            "the document has no id with a root",
            "/ClinicalDocument/id",
            CauseCode.REQUIRED_FIELD_MISSING,
        )
