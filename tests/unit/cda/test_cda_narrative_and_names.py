"""Sections' narrative as XHTML, the names of statements, and what stands at a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from adapters.cda.language import CdaLanguage, CdaReader
from adapters.cda.nodes import Node, tree_of
from adapters.cda.statements import identities
from adapters.cda.structure import V3
from adapters.cda.xhtml import XHTML_CHARACTERS_MAX, narrative_div
from gateway.mapping.r4.narrative import check_narrative
from gateway.mapping.vocabulary.invalid import Invalid
from gateway.mapping.vocabulary.narratives import xhtml
from gateway.model import Payload
from gateway.ports import Scope
from tests.unit.cda.samples import encoded

LANGUAGE = CdaLanguage()
ROOT = LANGUAGE.root(["R2"])
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'


def narrative(inside: str) -> Node:
    return tree_of(etree.fromstring(f'<text xmlns="{V3}">{inside}</text>'))


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("Nothing &lt; 1", "Nothing &lt; 1"),
        ('<paragraph ID="a">x</paragraph>', '<p id="a">x</p>'),
        ('<content styleCode="Bold">x</content> y', "<span>x</span> y"),
        ("<table><caption>c</caption><tbody><tr><td colspan='2'>x<br/>y</td></tr></tbody></table>",
         '<table><caption>c</caption><tbody><tr><td colspan="2">x<br/>y</td></tr></tbody></table>'),
        ('<list listType="ordered"><caption>c</caption><item>x</item></list>',
         "<ol><li>c</li><li>x</li></ol>"),
        ('<linkHtml href="javascript:alert(1)">x</linkHtml>', "<a>x</a>"),
        ('<linkHtml href="https://example.org/?a=1&amp;b=2">x</linkHtml>',
         '<a href="https://example.org/?a=1&amp;b=2">x</a>'),
        ('<paragraph onclick="steal()" style="x">x</paragraph>', "<p>x</p>"),
        ('<script xmlns="http://www.w3.org/1999/xhtml">x</script>', "x"),
        ('<renderMultiMedia referencedObject="p"><caption>c</caption></renderMultiMedia>',
         "<b>c</b>"),
        ('<paragraph ID="1&quot; onload=&quot;x">x</paragraph>', "<p>x</p>"),
    ],
)  # fmt: skip
def test_narrative_becomes_xhtml_of_the_closed_list(inside: str, expected: str) -> None:
    made = narrative_div(narrative(inside))
    assert made == f"{DIV}{expected}</div>"
    assert check_narrative(made) is None


def test_a_narrative_without_words_or_far_too_long_is_none() -> None:
    assert narrative_div(narrative("<table><tbody><tr><td/></tr></tbody></table>")) == ""
    assert narrative_div(narrative("x" * XHTML_CHARACTERS_MAX)) == ""


NAMES = st.sampled_from(
    ["paragraph", "content", "list", "item", "table", "tr", "td", "caption", "linkHtml", "sub",
     "footnote", "renderMultiMedia", "br", "script"]
)  # fmt: skip
TREES = st.recursive(
    st.tuples(NAMES, st.text(alphabet="ab<>&\"' ", max_size=6), st.just([])),
    lambda inner: st.tuples(NAMES, st.text(alphabet="ab<&", max_size=4), st.lists(inner)),
    max_leaves=12,
)


def grown(tree: tuple[str, str, list[object]]) -> etree._Element:
    name, text, inner = tree
    element = etree.Element(f"{{{V3}}}{name}")
    element.text, element.tail = text, text
    element.set("ID", text)
    element.set("href", f"javascript:{text}")
    for below in inner:
        element.append(grown(below))  # type: ignore[arg-type]
    return element


@given(TREES)
def test_any_narrative_keeps_its_words_and_is_taken_by_r4(
    tree: tuple[str, str, list[object]],
) -> None:
    top = etree.Element(f"{{{V3}}}text")
    top.append(grown(tree))
    made = narrative_div(tree_of(top))
    words = "".join(map(str, top.itertext()))
    if not words.strip():
        assert made == ""
        return
    assert check_narrative(made) is None
    assert "".join(map(str, etree.fromstring(made).itertext())) == words


def test_the_conversion_refuses_what_r4_does_not_take() -> None:
    assert xhtml("  ") is None
    assert xhtml(f"{DIV}x</div>") == f"{DIV}x</div>"
    for wrong in ("x", f"{DIV}<script>x</script></div>", f"{DIV}</div>"):
        with pytest.raises(Invalid):
            xhtml(wrong)


def statements(inside: str) -> dict[str, str]:
    """The names of statements by their ``ID``."""
    root = etree.fromstring(f'<ClinicalDocument xmlns="{V3}">{inside}</ClinicalDocument>')
    return {each.get("ID") or "": name for each, name in identities(tree_of(root)).items()}


WITH_ID = '<observation ID="{0}"><id root="1.2.3" extension="{1}"/><code code="A"/></observation>'
WITHOUT = '<observation ID="{0}"><id nullFlavor="UNK"/><code code="{1}"/></observation>'


def test_a_statement_is_named_by_its_own_id_wherever_it_stands() -> None:
    one = statements(WITH_ID.format("x", "7"))
    other = statements(f"<section>{WITHOUT.format('y', 'B')}{WITH_ID.format('x', '7')}</section>")
    assert one["x"] == other["x"]
    assert len(set(other.values())) == 3


def test_ids_that_software_copied_are_counted() -> None:
    names = statements(WITH_ID.format("x", "7") + WITH_ID.format("y", "7"))
    assert names["x"] != names["y"]
    assert names["x"] == statements(WITH_ID.format("x", "7"))["x"]


def test_without_an_id_the_statement_around_and_the_code_tell() -> None:
    around = '<act ID="a"><id root="1.2"/>{0}</act>'
    one = statements(around.format(WITHOUT.format("x", "A")))
    more = statements(around.format(WITHOUT.format("y", "B") + WITHOUT.format("x", "A")))
    elsewhere = statements(WITHOUT.format("x", "A"))
    assert one["x"] == more["x"] != elsewhere["x"]


def scope() -> Scope:
    return CdaReader().read([Payload.from_bytes(encoded(body=""))])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("title", None),
        ("recordTarget/patientRole/id(1)@root", "1.2.250.1.213.1.4.10"),
        ("recordTarget/patientRole/id@nullFlavor", None),
        ("component/nonXMLBody", None),
    ],
)
def test_a_look_at_a_path_says_what_reading_would(path: str, expected: object) -> None:
    root = scope()
    compiled = LANGUAGE.path(path, versions=["R2"], within=ROOT)
    assert compiled.content is not None
    token = compiled.content(root)
    assert bool(token) == bool([value for value in compiled.read(root) if value.text])
    if isinstance(expected, str):
        assert token == expected
    assert list(LANGUAGE.contents([compiled])(root)) == [token]


def test_an_element_that_points_elsewhere_is_like_no_other() -> None:
    path = LANGUAGE.path("recordTarget", versions=["R2"], within=ROOT)
    assert path.content is not None
    one, other = scope(), scope()
    assert path.content(one) == path.content(one)
    assert path.content(one) != path.content(other)


def test_paths_that_lead_up_or_anywhere_have_no_look() -> None:
    for text in ("..", "//section", "ancestor::section/title"):
        assert LANGUAGE.path(text, versions=["R2"], within=ROOT).content is None


def test_a_look_at_several_paths_goes_by_any_name_too() -> None:
    top = scope()
    paths = [LANGUAGE.path(text, versions=["R2"], within=ROOT) for text in ("*/@code", "id@root")]
    look = LANGUAGE.contents(paths)
    assert list(look(top)) == [path.content(top) for path in paths if path.content is not None]
    assert look(top)[0]
