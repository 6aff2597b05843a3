"""The elements of one document as a mapping reads them: plain objects, in document order.

A mapping asks for the children, attributes and words of an element again and again. Asked of
the parser's own tree, each answer is a new object and a call across its border; here it is a
field. The tree is made once for each document that is mapped, and the parser's is let go.
Comments and processing instructions are no part of it (:mod:`adapters.cda.document`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from lxml import etree

WORDS_MAX = 4096
"""Pieces of one text that are kept apart before they are put together: a PDF comes in many."""

_NO_CHILDREN: list[Node] = []
_NO_ATTRIBUTES: dict[str, str] = {}


class Node:
    """One element. Made by :func:`tree_of`, and not changed afterwards.

    ``tag`` is ``{namespace}name``; ``text`` the words before the first child and ``tail``
    those after the element, empty where there are none; ``children`` the elements below it.
    What others find out of an element is kept here, so that it is found once: ``token``
    (:mod:`adapters.cda.contents`), ``place``, ``datatype`` and ``said``
    (:mod:`adapters.cda.values`), ``chosen`` (:mod:`adapters.cda.walking`).
    """

    # Defaults of the class and no slots: most elements are leaves of which nothing is asked.
    text: str = ""
    tail: str = ""
    end: int = 0
    """The number of the first element after this one that is not in it."""
    token: Hashable = None
    place: str = ""
    datatype: str | None = None
    said: bool | None = None
    chosen: dict[int, Sequence[Node]] | None = None
    _by_tag: dict[str, list[Node]] | None = None
    _under: dict[str, list[Node]] | None = None

    def __init__(
        self, tag: str, attributes: dict[str, str], parent: Node | None, every: list[Node]
    ) -> None:
        self.tag: str = tag
        self.attributes: dict[str, str] = attributes
        self.parent: Node | None = parent
        self.children: list[Node] = _NO_CHILDREN
        self.all: list[Node] = every
        """The elements of the document, in its order; ``number`` is the place in it."""
        self.number: int = len(every)

    def get(self, name: str) -> str | None:
        """An attribute, by its name in the parser's notation."""
        return self.attributes.get(name)

    def below(self) -> list[Node]:
        """The element and every one in it, in document order."""
        return self.all[self.number : self.end]

    def by_tag(self) -> dict[str, list[Node]]:
        """The children by their tag, in document order. Not to be changed."""
        known = self._by_tag
        if known is None:
            known = {}
            for child in self.children:
                tag = child.tag
                if tag in known:
                    known[tag].append(child)
                else:
                    known[tag] = [child]
            self._by_tag = known
        return known

    def under(self, tag: str) -> list[Node]:
        """All elements of a tag below this one, in document order; of any tag when it is
        empty. Not to be changed."""
        known = self._under
        if known is None:
            known = self._under = {}
        found = known.get(tag)
        if found is None:
            inner = self.all[self.number + 1 : self.end]
            found = [node for node in inner if node.tag == tag] if tag else inner
            known[tag] = found
        return found

    def above(self) -> Iterator[Node]:
        """The elements around this one, the nearest first."""
        around = self.parent
        while around is not None:
            yield around
            around = around.parent

    def words(self) -> list[str]:
        """The texts in the element, in document order, as they stand."""
        if not self.children:
            return [self.text] if self.text else []
        found: list[str] = []
        still_open: list[Node] = []
        for node in self.below():
            while still_open and still_open[-1].end <= node.number:
                tail = still_open.pop().tail
                if tail:
                    found.append(tail)
            if node.text:
                found.append(node.text)
            still_open.append(node)
        found += [node.tail for node in reversed(still_open[1:]) if node.tail]
        return found


class Builder:
    """Makes nodes while a parser reads (the target of ``lxml.etree.XMLParser``).

    Raises :class:`TooMuch` at what is beyond the limits, and at a document type declaration.
    """

    def __init__(
        self, depth_max: int, elements_max: int, attributes_max: int, element_attributes_max: int
    ) -> None:
        self.depth_max: int = depth_max
        self.elements_max: int = elements_max
        self.attributes_max: int = attributes_max
        self.element_attributes_max: int = element_attributes_max
        self.every: list[Node] = []
        self._node: Node | None = None
        self._depth: int = 0
        self._attributes: int = 0
        self._words: list[str] = []
        self._blocks: list[str] = []
        self._tags: dict[str, str] = {}

    def start(self, tag: str, attributes: object) -> None:
        """An element begins; ``attributes`` is a dict, or an empty mapping of another kind."""
        if self._words:
            self._say()
        own = attributes if attributes and isinstance(attributes, dict) else _NO_ATTRIBUTES
        every, around = self.every, self._node
        node = Node(self._tags.setdefault(tag, tag), own, around, every)
        every.append(node)
        if around is not None:
            if around.children:
                around.children.append(node)
            else:
                around.children = [node]
        self._node = node
        self._depth += 1
        self._attributes += len(own)
        if (
            self._depth > self.depth_max
            or len(own) > self.element_attributes_max
            or len(every) > self.elements_max
            or self._attributes > self.attributes_max
        ):
            raise TooMuch

    def end(self, tag: str) -> None:
        """The innermost element ends."""
        del tag
        if self._words:
            self._say()
        node = self._node
        assert node is not None
        node.end = len(self.every)
        self._node = node.parent
        self._depth -= 1

    def data(self, words: str) -> None:
        """A piece of text."""
        self._words.append(words)
        if len(self._words) >= WORDS_MAX:
            self._blocks.append("".join(self._words))
            self._words.clear()
            self._words.append("")

    def doctype(self, name: str, public: object, system: object) -> None:
        """A document type declaration is never taken."""
        del name, public, system
        raise TooMuch

    def close(self) -> Node:
        """The root, when all has been read."""
        return self.every[0]

    def _say(self) -> None:
        words = self._words
        if self._blocks:
            words = [*self._blocks, *words]
            self._blocks.clear()
        text = words[0] if len(words) == 1 else "".join(words)
        self._words.clear()
        node = self._node
        if node is None:
            return
        if node.children:
            node.children[-1].tail = text
        else:
            node.text = text


class TooMuch(Exception):
    """More than a limit allows, or a declaration: the careful reader says which."""


def tree_of(top: etree._Element) -> Node:
    """The nodes of an element of the parser's tree and of all below it. Not recursive, so that
    depth is bounded by the reader's limit alone."""
    every: list[Node] = []
    tags: dict[str, str] = {}
    root = node = _node(top, None, every, tags)
    inside: Iterator[etree._Element] = iter(top)
    waiting: list[tuple[Node, Iterator[etree._Element]]] = []
    while True:
        element = next(inside, None)
        if element is None:
            node.end = len(every)
            if not waiting:
                return root
            node, inside = waiting.pop()
            continue
        child = _node(element, node, every, tags)
        child.tail = element.tail or ""
        if node.children:
            node.children.append(child)
        else:
            node.children = [child]
        waiting.append((node, inside))
        node, inside = child, iter(element)


def _node(
    element: etree._Element, parent: Node | None, every: list[Node], tags: dict[str, str]
) -> Node:
    tag = str(element.tag)
    attributes = {str(name): str(value) for name, value in element.items()}
    node = Node(tags.setdefault(tag, tag), attributes, parent, every)
    node.text = element.text or ""
    every.append(node)
    return node
