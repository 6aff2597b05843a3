"""What a CDA document says at one place: elements, attributes and texts as values.

State of an element: PRESENT when it, or anything in it, says something; EMPTY when
it stands there and says nothing, which is what ``nullFlavor`` means. An element with
a nullFlavor that still holds words or translations (``<code nullFlavor="OTH">`` with
an ``originalText``) is PRESENT, so that they are not lost. An attribute that is
missing on an element with a nullFlavor is EMPTY, on any other ABSENT; the flavour
itself is always reachable as ``@nullFlavor``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from itertools import count

from adapters.cda.narrative import identified, plain_text
from adapters.cda.nodes import Node
from adapters.cda.paths import CdaPath, Ending, parse
from adapters.cda.statements import identities
from adapters.cda.structure import XSI, name_of, structure, system_of, tag_of
from adapters.cda.xhtml import narrative_div
from gateway.model import Payload
from gateway.ports import Value, ValueState

XSI_TYPE = f"{{{XSI}}}type"
REFERENCES = (tag_of("reference"), tag_of("pharm:reference"))
# Attributes that qualify a value and are no value by themselves.
_QUALIFIERS = frozenset(
    {
        "nullFlavor", XSI_TYPE, "classCode", "moodCode", "determinerCode", "typeCode",
        "codeSystem", "codeSystemName", "codeSystemVersion", "use", "qualifier", "unit",
        "currency", "contextControlCode", "contextConductionInd", "inversionInd", "operator",
        "inclusive", "representation", "mediaType", "language", "assigningAuthorityName",
        "institutionSpecified", "alignment", "displayable", "isNotOrdered", "ID", "styleCode",
        "negationInd", "independentInd", "sdtc:valueSet",
    }
)  # fmt: skip

_SERIALS = count(1)

Find = Callable[["CdaElement", CdaPath], "Sequence[CdaValue]"]


def _is_valued(attributes: dict[str, str]) -> bool:
    """Whether an attribute holds a value, and the element does not say that it has none."""
    said = False
    for key, value in attributes.items():
        if key == "nullFlavor":
            return False
        if value and key not in _QUALIFIERS:
            said = True
    return said


def says_something(element: Node) -> bool:
    """True when the element or anything below it holds a value. Not recursive."""
    known = element.said
    if known is None:
        known = element.said = _says(element)
    return known


def _says(element: Node) -> bool:
    text = element.text
    if (text and not text.isspace()) or (element.attributes and _is_valued(element.attributes)):
        return True
    if not element.children:
        return False
    for inner in element.all[element.number + 1 : element.end]:
        text = inner.text
        if text and not text.isspace():
            return True
        if inner.attributes and _is_valued(inner.attributes):
            return True
        text = inner.tail
        if text and not text.isspace():
            return True
    return False


class Reading:
    """One document being read: its types, places and references, each found once."""

    def __init__(self, payload: Payload, root: Node, form: str, find: Find) -> None:
        self.payload = payload
        self.root = root
        self.form = form
        """How it came: :attr:`adapters.cda.document.Document.form`."""
        self.find = find
        self.absolute: dict[str, Hashable] = {}
        """The tokens of paths that start at the document."""
        self._identified: dict[str, Node] | None = None
        self._identities: dict[Node, str] | None = None
        self._serial = next(_SERIALS)
        root.datatype = structure().root
        root.place = "ClinicalDocument"

    def datatype(self, element: Node) -> str:
        """The schema's type of an element; ``xsi:type`` before the declared one."""
        known = element.datatype
        if known is not None:
            return known
        said = element.attributes.get(XSI_TYPE, "").rpartition(":")[2]
        if said and said in structure().types:
            found = said
        else:
            parent = element.parent
            declared: tuple[str, ...] = ()
            if parent is not None:
                declared, _ = structure().child([self.datatype(parent)], name_of(element.tag))
            found = declared[0] if declared else ""
        element.datatype = found
        return found

    def place(self, element: Node) -> str:
        """``ClinicalDocument/author(2)/time``: a position wherever a name repeats."""
        if element.place:
            return element.place
        parent = element.parent
        if parent is None:
            return name_of(element.tag)
        above = self.place(parent)
        by_name: dict[str, list[Node]] = {}
        for child in parent.children:
            by_name.setdefault(name_of(child.tag), []).append(child)
        for name, children in by_name.items():
            for position, child in enumerate(children, 1):
                suffix = f"({position})" if len(children) > 1 else ""
                child.place = f"{above}/{name}{suffix}"
        return element.place

    def referenced(self, reference: str) -> Node | None:
        """The element whose ID ``#id`` names; None when there is none.

        Writers that forget the ``#`` are understood where an element has that ID.
        """
        if self._identified is None:
            self._identified = identified(self.root)
        return self._identified.get(reference.removeprefix("#").strip())

    def number(self, element: Node) -> tuple[int, int]:
        """A number that no other element of any document read here has."""
        return self._serial, element.number

    def identity(self, element: Node) -> str:
        """The name of a section or statement; empty for any other element."""
        if self._identities is None:
            self._identities = identities(self.root)
        return self._identities.get(element, "")


class CdaElement:
    """An element: a value, and a scope from which paths are read."""

    __slots__ = ("element", "reading")

    def __init__(self, reading: Reading, element: Node) -> None:
        self.reading = reading
        self.element = element

    @property
    def state(self) -> ValueState:
        """PRESENT or EMPTY; see the module's text."""
        if says_something(self.element):
            return ValueState.PRESENT
        return ValueState.EMPTY

    @property
    def text(self) -> str:
        """The simple value: ``@value``, ``@code``, an identifier's ``@extension`` or
        ``@root``, else the words inside (narrative as :func:`plain_text` gives it)."""
        return simple_value(self.element)

    @property
    def path(self) -> str:
        """``ClinicalDocument/author(2)/time``."""
        return self.reading.place(self.element)

    @property
    def datatype(self) -> str:
        """The schema's type (``CD``, ``IVL_TS``, ``Observation``); ``xsi:type`` decides."""
        return self.reading.datatype(self.element)

    def part(self, path: str) -> Value:
        """The first value at a relative path; ABSENT if there is none."""
        found = self.parts(path)
        return found[0] if found else Missing(self, path)

    def parts(self, path: str) -> Sequence[CdaValue]:
        """All values at a relative path. PathError when it is no path."""
        if path[:1] == "@" and path != "@xsi:type":  # what is asked most, without a walk
            attributes = self.element.attributes
            said = attributes.get(path[1:])
            if said is None and "nullFlavor" not in attributes:
                return ()
            return (CdaText(self, path, said),)
        return self.reading.find(self, _parsed(path))

    def source_bytes(self) -> bytes:
        """The exact bytes of the document that this belongs to (``from: source()``)."""
        return self.reading.payload.read()

    def raw(self) -> bytes:
        """The text content as it stands (Base64 stays Base64); of the ClinicalDocument,
        the exact bytes that arrived, with whatever stylesheet or signature is around it."""
        if self.element is self.reading.root:
            return self.reading.payload.read()
        return "".join(self.element.words()).encode("utf-8")


class CdaText:
    """A plain string at a place: an attribute, ``text()`` or ``ref()``. Has no parts."""

    __slots__ = ("_place", "_suffix", "state", "text")

    def __init__(self, holder: CdaElement, suffix: str, text: str | None) -> None:
        self._place = holder
        self._suffix = suffix
        self.text = text or ""
        if text:
            self.state = ValueState.PRESENT
        elif text is not None or "nullFlavor" in holder.element.attributes:
            self.state = ValueState.EMPTY
        else:
            self.state = ValueState.ABSENT

    @property
    def path(self) -> str:
        """``…/id(2)@root`` or ``…/title/text()``."""
        return f"{self._place.path}{self._suffix}"

    @property
    def datatype(self) -> str:
        """Always empty: the schema's simple types are no CDA data types."""
        return ""

    def part(self, path: str) -> Value:
        """A string has no parts."""
        return Missing(self, path)

    def parts(self, path: str) -> Sequence[CdaValue]:
        """A string has no parts."""
        del path
        return ()

    def raw(self) -> bytes:
        """The string in UTF-8."""
        return self.text.encode("utf-8")


class Missing:
    """Nothing at a place."""

    __slots__ = ("_holder", "_part", "datatype", "state", "text")

    def __init__(self, holder: CdaElement | CdaText | Missing, part: str) -> None:
        self._holder = holder
        self._part = part
        self.state = ValueState.ABSENT
        self.text = ""
        self.datatype = ""

    @property
    def path(self) -> str:
        """Where it would stand."""
        return f"{self._holder.path}/{self._part}"

    def part(self, path: str) -> Value:
        """Nothing has no parts."""
        return Missing(self, path)

    def parts(self, path: str) -> Sequence[CdaValue]:
        """Nothing has no parts."""
        del path
        return ()

    def raw(self) -> bytes:
        """No bytes."""
        return b""


CdaValue = CdaElement | CdaText


@lru_cache(maxsize=4096)
def _parsed(path: str) -> CdaPath:
    return parse(path)


def simple_value(element: Node) -> str:
    """The one string that stands for an element where a string is asked for."""
    attributes = element.attributes
    if attributes:
        for key in ("value", "code", "extension", "root"):
            found = attributes.get(key)
            if found is not None:
                return found
    return plain_text(element)


def compared_values(element: Node) -> tuple[str, ...]:
    """What a predicate compares: an identifier answers to root and to root^extension."""
    root = element.get("root")
    if root is not None and element.get("value") is None and element.get("code") is None:
        return (root, f"{root}^{element.attributes.get('extension', '')}")
    return (simple_value(element),)


def ending_value(holder: CdaElement, path: CdaPath) -> CdaValue | None:
    """What a path's ending takes from one element; None where nothing stands."""
    element = holder.element
    if path.ending is Ending.ELEMENT:
        return holder
    if path.ending is Ending.ATTRIBUTE:
        found = CdaText(holder, f"@{path.attribute}", attribute_value(element, path.attribute))
    elif path.ending is Ending.REFERENCE:
        found = CdaText(holder, "/ref()", _resolved(holder) or None)
    elif path.ending is Ending.IDENTITY:
        found = CdaText(holder, "/identity()", holder.reading.identity(element) or None)
    else:
        found = CdaText(holder, f"/{path.ending.value}", _FUNCTIONS[path.ending](element) or None)
    return None if found.state is ValueState.ABSENT else found


def attribute_value(element: Node, name: str) -> str | None:
    """An attribute; of ``xsi:type`` the type's own name, for its prefix means nothing."""
    if name == "xsi:type":
        said = element.get(XSI_TYPE)
        return None if said is None else said.rpartition(":")[2]
    return element.get(name)


def _uri(element: Node) -> str:
    root = element.attributes.get("root", "").strip()
    return system_of(root) if root else ""


def _scheme(element: Node) -> str:
    scheme, colon, _ = element.attributes.get("value", "").strip().partition(":")
    return scheme.lower() if colon else ""


def _address(element: Node) -> str:
    value = element.attributes.get("value", "").strip()
    _, colon, address = value.partition(":")
    return address if colon else value


_FUNCTIONS: dict[Ending, Callable[[Node], str]] = {
    Ending.TEXT: plain_text,
    Ending.URI: _uri,
    Ending.SCHEME: _scheme,
    Ending.ADDRESS: _address,
    Ending.XHTML: narrative_div,
}


def _resolved(holder: CdaElement) -> str:
    """The words that an element holds or that its ``reference`` points to."""
    element = holder.element
    if element.tag in REFERENCES:
        pointer: Node | None = element
    else:
        pointer = next((child for child in element.children if child.tag in REFERENCES), None)
    if pointer is not None:
        target = holder.reading.referenced(pointer.attributes.get("value", ""))
        if target is not None:
            return plain_text(target)
    return plain_text(element)
