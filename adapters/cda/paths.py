"""The notation of CDA paths: text to steps. Knows no schema and no document.

::

    path      = [ "/" | "//" ] step { ("/" | "//") step } [ terminal ]
    step      = ["ancestor::"] (name | "*") { "[" predicate "]" } [ "(" position ")" ]
              | "." | "$" | ".."
    terminal  = "@" attribute | "/@" attribute | "/" function
    function  = "text()" | "ref()" | "xhtml()" | "uri()" | "scheme()" | "address()" | "identity()"
    predicate = ["!"] path [ ("=" | "!=") value { "|" value } ]
    position  = a number from 1, "last", or "*" (all, the same as nothing); it counts
                within one parent, after the predicates, as in XPath

``ClinicalDocument/…`` and ``/ClinicalDocument/…`` start at the document whatever the
scope; all else starts at the scope. ``//x`` means every ``x`` below the scope
(``ClinicalDocument//x``: below the document), ``ancestor::x`` the nearest ``x`` around
that fits, ``*`` an element of any name. ``$`` and ``.`` are the scope's own element.

``text()`` gives the words inside, ``ref()`` those that a ``<reference>`` points to (else
the words inside), ``uri()`` an identifier's root as ``urn:oid:…`` or ``urn:uuid:…``,
``scheme()`` and ``address()`` the two halves of a telecom's ``tel:…``, ``xhtml()`` a
section's narrative as the XHTML of an R4 narrative (:mod:`adapters.cda.xhtml`),
``identity()`` the name of a section or statement (:mod:`adapters.cda.statements`).

A predicate compares an element by its simple value: ``@value``, else
``@code``, else for an identifier ``@root`` or ``root^extension``, else its text.
A value that holds ``]``, ``|`` or a blank at an end is written in double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from gateway.ports import PathError

PATH_CHARACTERS_MAX = 2_000
NESTING_MAX = 8

ANY = "*"
"""The step that takes an element of any name."""

_NAME = re.compile(r"[A-Za-z_][\w.\-]*(?::[A-Za-z_][\w.\-]*)?", re.ASCII)
_PREFIXED = re.compile(r"(?:ps3-20|[A-Za-z_][\w\-]*):[A-Za-z_][\w.\-]*", re.ASCII)
_POSITION = re.compile(r"\((\d{1,6}|last|\*)\)")
_BARE_VALUE = re.compile(r"[^\]|\"]+")
_QUOTED_VALUE = re.compile(r'"([^"]*)"')


class Axis(Enum):
    """Where a step goes from an element."""

    CHILD = "/"
    DESCENDANT = "//"
    PARENT = ".."
    ANCESTOR = "ancestor::"


class Ending(Enum):
    """What of the elements found is wanted."""

    ELEMENT = "element"
    ATTRIBUTE = "attribute"
    TEXT = "text()"
    REFERENCE = "ref()"
    URI = "uri()"
    SCHEME = "scheme()"
    ADDRESS = "address()"
    XHTML = "xhtml()"
    IDENTITY = "identity()"


_FUNCTIONS = tuple(ending for ending in Ending if ending.value.endswith("()"))


@dataclass(frozen=True, slots=True)
class Predicate:
    """``path`` is read from the element; no ``values`` asks only if something is there.

    With ``values`` the predicate holds when any value read equals any of them.
    ``negated`` turns the whole answer round, so ``[x!=v]`` holds where x is absent too.
    """

    path: CdaPath
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``position`` counts from 1, -1 is the last, 0 is all."""

    axis: Axis
    name: str
    predicates: tuple[Predicate, ...] = ()
    position: int = 0


@dataclass(frozen=True, slots=True)
class CdaPath:
    """A parsed path; ``absolute`` ones start at the ClinicalDocument element."""

    text: str
    absolute: bool
    steps: tuple[Step, ...]
    ending: Ending = Ending.ELEMENT
    attribute: str = ""


@lru_cache(maxsize=16_384)
def parse(text: str) -> CdaPath:
    """Read a path. PathError says at which character it is no path."""
    if len(text) > PATH_CHARACTERS_MAX:
        raise PathError(f"a CDA path has at most {PATH_CHARACTERS_MAX} characters")
    parser = _Parser(text)
    path = parser.path(nesting=0)
    if parser.at < len(text):
        raise parser.error("does not continue like this")
    return path


class _Parser:
    """Recursive descent over one text; ``at`` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def error(self, what: str, suggestion: str = "") -> PathError:
        rest = self.text[self.at : self.at + 12] or "the end"
        return PathError(
            f"CDA path {self.text!r}: {what} at character {self.at + 1} ({rest!r})", suggestion
        )

    def _take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def path(self, nesting: int) -> CdaPath:
        if nesting > NESTING_MAX:
            raise self.error(f"predicates nest deeper than {NESTING_MAX}")
        start = self.at
        absolute, axis = self._origin()
        steps: list[Step] = []
        ending, attribute = Ending.ELEMENT, ""
        functions = _FUNCTIONS if "()" in self.text else ()
        while True:
            if self._take("@"):
                ending, attribute = Ending.ATTRIBUTE, self._name("an attribute's name")
                break
            function = next((each for each in functions if self._take(each.value)), None)
            if function is not None:
                ending = function
                break
            step = self._step(axis, nesting)
            if step is not None:
                steps.append(step)
            if self.text.startswith("@", self.at):
                continue
            if self._take("//"):
                axis = Axis.DESCENDANT
            elif self._take("/"):
                axis = Axis.CHILD
            else:
                break
        path = CdaPath(self.text[start : self.at], absolute, tuple(steps), ending, attribute)
        return _from_document(path)

    def _origin(self) -> tuple[bool, Axis]:
        if self._take("//"):
            return False, Axis.DESCENDANT
        if self._take("/"):
            if not self.text.startswith("ClinicalDocument", self.at):
                raise self.error("only ClinicalDocument stands at the root", "/ClinicalDocument")
            return True, Axis.CHILD
        return False, Axis.CHILD

    def _step(self, axis: Axis, nesting: int) -> Step | None:
        """One step; None for the step that stays where it is."""
        if self._take(".."):
            return Step(Axis.PARENT, "")
        if self._take(".") or self._take("$"):
            return None
        if self._take("ancestor::"):
            axis = Axis.ANCESTOR
        name = ANY if self._take(ANY) else self._name("an element's name")
        predicates: list[Predicate] = []
        while self._take("["):
            predicates.append(self._predicate(nesting + 1))
        position = 0
        found = self._match(_POSITION)
        if found:
            position = {"last": -1, "*": 0}.get(found[1], -2)
            if position == -2:
                position = int(found[1])
                if position == 0:
                    raise self.error("positions count from 1", "(1)")
        if self.text.startswith("[", self.at):
            raise self.error("a predicate stands before the position")
        return Step(axis, name, tuple(predicates), position)

    def _name(self, what: str) -> str:
        found = self._match(_PREFIXED) or self._match(_NAME)
        if not found:
            raise self.error(f"{what} is expected")
        return found[0]

    def _predicate(self, nesting: int) -> Predicate:
        negated = self._take("!")
        path = self.path(nesting)
        values: list[str] = []
        unequal = self._take("!=")
        if unequal or self._take("="):
            values.append(self._value())
            while self._take("|"):
                values.append(self._value())
        if not self._take("]"):
            raise self.error("a predicate ends with ]")
        return Predicate(path, tuple(values), negated != unequal)

    def _value(self) -> str:
        quoted = self._match(_QUOTED_VALUE)
        if quoted:
            return quoted[1]
        bare = self._match(_BARE_VALUE)
        if not bare:
            raise self.error("a value is expected", '""')
        return bare[0].strip()


def _from_document(path: CdaPath) -> CdaPath:
    """``ClinicalDocument`` as the first step is the document itself."""
    first = path.steps[0] if path.steps else None
    if first is None or first.name != "ClinicalDocument" or first.axis is not Axis.CHILD:
        return path
    if first.predicates or first.position:
        raise PathError(f"CDA path {path.text!r}: there is one ClinicalDocument, without choice")
    return CdaPath(path.text, True, path.steps[1:], path.ending, path.attribute)
