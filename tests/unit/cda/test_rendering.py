"""The rendering of documents: a closed list of elements, whatever the narrative tries."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adapters.cda.document import read_document
from adapters.cda.rendering.card import instant, read_card, sections
from adapters.cda.rendering.page import policy, render
from gateway.model import Payload
from tests.unit.cda.hostile import NARRATIVES, PNG, hostile_document
from tests.unit.cda.samples import BODY, document

ELEMENTS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "dl",
        "dt",
        "dd",
        "nav",
        "ol",
        "ul",
        "li",
        "a",
        "div",
        "span",
        "section",
        "table",
        "caption",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "td",
        "th",
        "br",
        "sub",
        "sup",
        "small",
        "b",
        "img",
        "pre",
    ]
)
ATTRIBUTES = frozenset(["class", "id", "href", "src", "alt", "colspan", "rowspan", "lang", "charset", "content", "name"]) | {
    "http-equiv", "aria-label",
}  # fmt: skip


class Seen(HTMLParser):
    """What a browser's parser would see."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data


def rendered(data: bytes) -> str:
    return render(read_document(Payload.from_bytes(data)))


def harmless(text: str) -> Seen:
    seen = Seen(text)
    assert seen.tags <= ELEMENTS
    for tag, name, value in seen.attributes:
        assert name in ATTRIBUTES, (tag, name)
        if name == "href":
            assert value.startswith("#"), value
        if name == "src":
            assert value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")), value
    return seen


@pytest.mark.parametrize("name", NARRATIVES)
def test_nothing_hostile_becomes_markup(name: str) -> None:
    harmless(rendered(hostile_document(NARRATIVES[name])))


def test_words_are_kept_where_the_element_is_not() -> None:
    text = "<svg><text>kept &lt;b&gt;</text></svg><unknown>also</unknown>"
    seen = harmless(rendered(hostile_document(text)))
    assert "kept <b>" in seen.words
    assert "also" in seen.words


def test_the_policy_allows_no_script_and_no_fetch() -> None:
    assert "default-src 'none'" in policy()
    assert "script-src" not in policy()
    assert policy().endswith("sandbox")
    text = rendered(document(body=BODY).encode())
    assert "Content-Security-Policy" in text
    assert "http://" not in text
    assert "https://" not in text


def test_tables_references_and_pictures_are_taken_over() -> None:
    narrative = (
        '<table><caption>C</caption><thead><tr><th align="right" colspan="2">H</th></tr></thead>'
        '<tbody><tr><td ID="a1"><content styleCode="Bold Underline">v</content></td></tr></tbody>'
        '</table><linkHtml href="#a1">see</linkHtml><list listType="ordered"><item>i</item></list>'
        '<renderMultiMedia referencedObject="m1"/>'
    )
    text = rendered(hostile_document(narrative, media=PNG))
    harmless(text)
    assert '<caption>C</caption><thead><tr><th class="to-right" colspan="2">H</th>' in text
    assert '<td id="n-a1"><span class="bold underline">v</span></td>' in text
    assert '<a href="#n-a1">see</a><ol><li>i</li></ol>' in text
    assert f'<img src="data:image/png;base64,{PNG}"' in text


def test_what_only_claims_to_be_a_picture_is_not_shown() -> None:
    text = rendered(hostile_document(NARRATIVES["media-svg"]))
    assert "<img" not in text
    assert "non affiché" in text


names = st.sampled_from(
    ["paragraph", "content", "list", "item", "table", "td", "script", "svg", "a", "linkHtml", "br"]
)
values = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
trees = st.recursive(
    st.tuples(names, values, st.just(())),
    lambda inner: st.tuples(names, values, st.lists(inner, max_size=3)),
    max_leaves=12,
)


def element(tree: object) -> etree._Element:
    name, value, inner = tree  # type: ignore[misc]
    made = etree.Element(f"{{urn:hl7-org:v3}}{name}")
    for attribute in ("ID", "href", "styleCode", "onclick", "style", "src", "colspan"):
        made.set(attribute, value)
    made.text = value
    for each in inner:
        made.append(element(each))
    return made


@settings(max_examples=60, deadline=None)
@given(trees)
def test_no_narrative_at_all_becomes_markup(tree: object) -> None:
    text = etree.tostring(element(tree), encoding="unicode")
    harmless(rendered(hostile_document(text)))


def test_a_hostile_title_and_name_are_only_words() -> None:
    hostile = "&lt;script&gt;window.ran=1&lt;/script&gt;"
    data = document(body=BODY).replace("Biochimie", hostile).replace("ESSAI", hostile)
    seen = harmless(rendered(data.replace("CR d'examens", hostile).encode()))
    assert "script" not in seen.tags


def test_depth_costs_no_recursion() -> None:
    narrative = "<content>" * 150 + "x" + "</content>" * 150
    assert "x" in harmless(rendered(hostile_document(narrative))).words


def test_the_card_says_who_and_when() -> None:
    card = read_card(read_document(Payload.from_bytes(document(body=BODY).encode())))
    assert card.patient == "ANNE ESSAI-DEUX".upper()
    assert (card.sex, card.born, card.date) == (
        "Féminin", "28/03/1979", "02/01/2024 à 03:04 (UTC+01:00)",
    )  # fmt: skip
    assert ("INS", "279035121518989") in card.identifiers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2024", "2024"), ("202403", "03/2024"), ("20240301", "01/03/2024"),
        ("202403011205+0100", "01/03/2024 à 12:05 (UTC+01:00)"), ("20240301120530.123-0400",
        "01/03/2024 à 12:05 (UTC-04:00)"), ("yesterday", "yesterday"),
    ],
)  # fmt: skip
def test_times_in_french(value: str, shown: str) -> None:
    assert instant(value) == shown


def test_sections_with_their_depth() -> None:
    inner = "<component><section><title>Inner</title><text>t</text></section></component>"
    data = document(body=BODY.replace("<entry typeCode", f"{inner}<entry typeCode"))
    found = list(sections(read_document(Payload.from_bytes(data.encode()))))
    assert [(each.depth, each.title) for each in found] == [(0, "Biochimie"), (1, "Inner")]
