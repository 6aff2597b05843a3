"""A whole document as one HTML page, and the policy under which it is to be served."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from itertools import islice

from lxml import etree

from adapters.cda.document import Document
from adapters.cda.rendering.card import Card, SectionLine, read_card, sections
from adapters.cda.rendering.narrative import (
    OUTPUT_CHARACTERS_MAX,
    image_of,
    narrative_html,
)
from adapters.cda.structure import V3

PDF_COPY = "1.2.250.1.213.1.1.2.243"
"""Template of the section that holds the document's copy as a PDF (CI-SIS)."""
PLAIN_CHARACTERS_MAX = 4 << 20
CONTENTS_MAX = 50
HEADINGS = 4


@cache
def style() -> str:
    """The page's style sheet."""
    return files("adapters.cda.rendering").joinpath("style.css").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The Content-Security-Policy: no script, nothing fetched, only the page's own style."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'; sandbox"
    )


@dataclass(frozen=True, slots=True)
class Inside:
    """A file in the document: its body, or an observationMedia, as it claims to be."""

    media_type: str
    element: etree._Element

    def data(self) -> bytes:
        """The decoded bytes. ValueError when they are no Base64."""
        return base64.b64decode("".join((self.element.text or "").split()), validate=True)


def _v3(path: str) -> str:
    return "/".join(f"{{{V3}}}{step}" for step in path.split("/"))


def contents(document: Document) -> list[Inside]:
    """The files in a document that a viewer of their own shows: PDF first of all."""
    found = []
    body = document.root.find(_v3("component/nonXMLBody/text"))
    if body is not None and body.get("representation") == "B64":
        found.append(Inside((body.get("mediaType") or "").strip(), body))
    for media in islice(document.root.iter(f"{{{V3}}}observationMedia"), CONTENTS_MAX):
        value = media.find(f"{{{V3}}}value")
        if value is not None and value.get("representation") == "B64":
            found.append(Inside((value.get("mediaType") or "").strip(), value))
    return found


def pdfs(document: Document) -> list[bytes]:
    """The PDF files in a document, decoded; what only claims to be one is left out."""
    found = []
    for each in contents(document):
        if each.media_type != "application/pdf":
            continue
        try:
            data = each.data()
        except ValueError:
            continue
        if b"%PDF-" in data[:1024]:
            found.append(data)
    return found


def render(document: Document) -> str:
    """The page. It is complete in itself and refers to nothing."""
    out: list[str] = []
    size = 0
    for part in _parts(document):
        size += len(part)
        if size > OUTPUT_CHARACTERS_MAX:
            out.append(
                '<p class="notice">Le document est trop long pour être montré en entier.</p>'
            )
            break
        out.append(part)
    out.append("</main></body></html>")
    return "".join(out)


def _parts(document: Document) -> Iterator[str]:
    card = read_card(document)
    listed = list(sections(document))
    # The policy stands in the page as well, for one that is saved to a file.
    held = policy().replace("; frame-ancestors 'self'; sandbox", "")
    yield (
        '<!doctype html><html lang="fr"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(held)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(card.title)}</title><style>{style()}</style></head><body><main>"
    )
    yield from _card(card)
    if len(listed) > 1:
        yield from _contents(listed)
    yield from _attached(document)
    yield from _plain_body(document)
    media = _by_id(document)
    for section in listed:
        yield from _section(section, media)


def _card(card: Card) -> Iterator[str]:
    yield f'<header class="card"><h1>{escape(card.title)}</h1>'
    kind = card.kind if card.kind != card.title else ""
    said = " · ".join(part for part in (kind, card.date, card.form) if part)
    yield f'<p class="kind">{escape(said)}</p><p class="patient">{escape(card.patient)}</p>'
    birth = f"né(e) {card.birth_name}" if card.birth_name else ""
    traits = (card.sex, card.born and f"naissance : {card.born}", birth)
    yield f'<p class="traits">{escape(" · ".join(part for part in traits if part))}</p><dl>'
    for label, value in (*card.identifiers, *card.facts):
        yield f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>"
    yield "</dl></header>"


def _contents(listed: list[SectionLine]) -> Iterator[str]:
    yield '<nav aria-label="Sections"><ol>'
    for each in listed:
        if each.depth == 0:
            yield f'<li><a href="#s-{each.number}">{escape(each.title)}</a></li>'
    yield "</ol></nav>"


def _attached(document: Document) -> Iterator[str]:
    count = sum(each.media_type == "application/pdf" for each in contents(document))
    if count:
        many = "une copie PDF" if count == 1 else f"{count} copies PDF"
        yield f'<p class="notice">Ce document contient {many}, à lire dans la visionneuse.</p>'


def _plain_body(document: Document) -> Iterator[str]:
    body = document.root.find(_v3("component/nonXMLBody/text"))
    if body is None:
        return
    media = (body.get("mediaType") or "").strip()
    image = image_of(body)
    if image is not None:
        yield (
            f'<section><img src="data:{image.media_type};base64,{image.base64}" '
            'alt="Le document"></section>'
        )
    elif media == "text/plain":
        yield f"<section><pre>{escape(_plain_text(body))}</pre></section>"
    elif media != "application/pdf":
        yield (
            f'<p class="notice">Le corps du document ({escape(media[:60] or "type inconnu")}) '
            "n'est pas montré ici.</p>"
        )


def _plain_text(body: etree._Element) -> str:
    if body.get("representation") != "B64":
        return "".join(str(each) for each in body.itertext())[:PLAIN_CHARACTERS_MAX]
    try:
        data = base64.b64decode("".join((body.text or "").split()))[:PLAIN_CHARACTERS_MAX]
    except ValueError:
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _by_id(document: Document) -> dict[str, etree._Element]:
    """observationMedia by ID; a regionOfInterest stands for the picture that it lies on."""
    found: dict[str, etree._Element] = {}
    for name in ("observationMedia", "regionOfInterest"):
        for each in islice(document.root.iter(f"{{{V3}}}{name}"), CONTENTS_MAX):
            under = each if name == "observationMedia" else next(
                each.iter(f"{{{V3}}}observationMedia"), None
            )  # fmt: skip
            identifier = each.get("ID")
            if identifier and under is not None:
                found.setdefault(identifier, under)
    return found


def _section(section: SectionLine, media: dict[str, etree._Element]) -> Iterator[str]:
    level = min(section.depth, HEADINGS) + 2
    yield f'<section id="s-{section.number}"><h{level}>{escape(section.title)}</h{level}>'
    text = section.element.find(f"{{{V3}}}text")
    if text is not None:
        yield from narrative_html(text, media.get)
    yield "</section>"
