"""The two ways to the nodes of a document: while it is parsed, and out of the parser's tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cda.document import NODES_BYTES_MAX, Limits, read_document, read_nodes
from adapters.cda.nodes import WORDS_MAX, Node, tree_of
from adapters.cda.prolog import NotReadable
from gateway.model import CauseCode, Payload
from tests.unit.cda.samples import encoded

TEXTS = st.text(alphabet="ab &<>\"'é\n\t€", max_size=8)
INSIDE = st.recursive(
    st.tuples(TEXTS, TEXTS, TEXTS, st.just([])),
    lambda inner: st.tuples(TEXTS, TEXTS, TEXTS, st.lists(inner, max_size=4)),
    max_leaves=10,
)


def said(root: Node) -> list[tuple[object, ...]]:
    """Everything that is told apart, in document order."""
    return [
        (
            node.tag,
            node.attributes,
            node.text,
            node.tail if node is not root else "",
            node.number,
            node.end,
            -1 if node.parent is None else node.parent.number,
            [child.number for child in node.children],
        )
        for node in root.below()
    ]


def escaped(text: str) -> str:
    for character in "&<>\"'\n\t":
        text = text.replace(character, f"&#{ord(character)};")
    return text.replace("&#38;", "&amp;")


def written(tree: tuple[str, str, str, list[object]]) -> str:
    attribute, text, tail, inner = tree
    below = "".join(written(each) for each in inner)  # type: ignore[arg-type]
    return (
        f'<!-- c --><content ID="{escaped(attribute)}">{escaped(text)}<![CDATA[<x>]]>'
        f"{below}<?pi?></content>{escaped(tail)}"
    )


def both(data: bytes) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    payload = Payload.from_bytes(data)
    root, form = read_nodes(payload)
    document = read_document(payload)
    assert form == document.form
    return said(root), said(tree_of(document.root))


@given(INSIDE)
def test_both_ways_say_the_same_of_any_content(tree: tuple[str, str, str, list[object]]) -> None:
    data = encoded().replace(b"</title>", b"</title>" + written(tree).encode(), 1)
    assert b"<content" in data
    while_parsing, afterwards = both(data)
    assert while_parsing == afterwards


def test_both_ways_say_the_same_of_the_corpus(shared: Path) -> None:
    for path in sorted((shared / "corpora" / "cda").glob("*.xml")):
        while_parsing, afterwards = both(path.read_bytes())
        assert while_parsing == afterwards, path.name


def test_a_text_in_very_many_pieces_is_whole() -> None:
    words = "a&amp;" * (3 * WORDS_MAX)
    data = encoded().replace(b"</title>", f"</title><x>{words}</x>".encode(), 1)
    root, _ = read_nodes(Payload.from_bytes(data))
    found = next(node for node in root.below() if node.tag.endswith("}x"))
    assert found.text == "a&" * (3 * WORDS_MAX)
    assert found.words() == [found.text]


@pytest.mark.parametrize(
    ("inside", "limits", "code"),
    [
        ("<a><b><c/></b></a>", Limits(depth_max=3), CauseCode.HOSTILE_CONTENT),
        ("<a/>" * 500, Limits(elements_max=400), CauseCode.HOSTILE_CONTENT),
        ('<a b="" c="" d=""/>', Limits(element_attributes_max=2), CauseCode.HOSTILE_CONTENT),
        ('<a b=""/>' * 500, Limits(attributes_max=400), CauseCode.HOSTILE_CONTENT),
        ("<a>&undeclared;</a>", Limits(), CauseCode.HOSTILE_CONTENT),
        ("<a>", Limits(), CauseCode.UNREADABLE),
    ],
)
def test_what_is_refused_is_refused_with_the_same_words(
    inside: str, limits: Limits, code: CauseCode
) -> None:
    data = encoded().replace(b"</title>", f"</title>{inside}".encode(), 1)
    payload = Payload.from_bytes(data)
    with pytest.raises(NotReadable) as by_nodes:
        read_nodes(payload, limits=limits)
    with pytest.raises(NotReadable) as by_tree:
        read_document(payload, limits=limits)
    assert by_nodes.value.code is by_tree.value.code is code
    assert (str(by_nodes.value), by_nodes.value.location) == (
        str(by_tree.value), by_tree.value.location,
    )  # fmt: skip


def test_large_documents_do_not_gather_in_memory() -> None:
    """Each is few objects, so that the collector by itself would come after dozens of them."""
    import gc

    words = "A" * (4 << 20)
    gc.disable()
    try:
        for number in range(20):
            data = (
                '<ClinicalDocument xmlns="urn:hl7-org:v3">'
                '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
                f'<id root="1.2.{number}"/><recordTarget/><text>{words}</text></ClinicalDocument>'
            )
            read_nodes(Payload.from_bytes(data.encode()))
        left = sum(
            len(each.text) for each in gc.get_objects() if isinstance(each, Node) and each.text
        )
    finally:
        gc.enable()
    assert left <= NODES_BYTES_MAX
