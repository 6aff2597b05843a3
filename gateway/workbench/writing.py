"""The described mappings as Markdown and as HTML, ready to be printed and signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from gateway.workbench.documenting import Described, Section

COLUMNS = ("Target", "Source", "How", "When", "Otherwise, and why", "Rule")
SIGNATURE = "Read and approved (name, function, date, signature):"

_STYLE = """\
body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;
padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;width:100%;margin:.6rem 0 1.6rem}
th,td{border-bottom:1px solid #cbd3db;padding:.3rem .5rem;text-align:left;vertical-align:top}
th{font-weight:600}code{font-size:.88em;overflow-wrap:anywhere}td.rule{color:#5b6875;font-size:.85em}
.sign{margin-top:3rem;padding-top:2.5rem;border-bottom:1px solid #1d2733}
@media print{body{margin:0}h1{break-before:page}tr{break-inside:avoid}}
"""


def markdown(mappings: Sequence[Described]) -> str:
    """One document of all mappings."""
    return "\n".join(line for mapping in mappings for line in _markdown(mapping)) + "\n"


def _markdown(mapping: Described) -> Iterator[str]:
    yield from (f"# {mapping.name} {mapping.version}", "", f"Format {mapping.format}. For messages "
                f"in which {'; '.join(mapping.matches) or 'nothing is asked (a library)'}.", "",
                f"Digest `{mapping.digest}`", "")  # fmt: skip
    for section in (*mapping.entries, *mapping.types):
        yield from _markdown_section(section)
    for title, columns, rows in _lists(mapping):
        yield from (f"## {title}", "")
        yield from _markdown_table(columns, rows)
    yield from (SIGNATURE, "", "")


def _markdown_section(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "")
    if section.note:
        yield from (section.note, "")
    yield from _markdown_table(COLUMNS, _rows(section))


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"
    yield ""


def _cell(text: str) -> str:
    """A text that stays within its cell: no bar, no line end, no mark-up of its own."""
    shown = text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "↵")
    for character in "*_<`[":
        shown = shown.replace(character, f"\\{character}")
    return shown


def html(mappings: Sequence[Described]) -> str:
    """One page of all mappings; it needs nothing from elsewhere."""
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>Mappings</title>'
        f"<style>{_STYLE}</style></head><body>",
    ]
    for mapping in mappings:
        asked = "; ".join(mapping.matches) or "nothing is asked (a library)"
        parts += [
            f"<h1>{escape(mapping.name)} {escape(mapping.version)}</h1>",
            f"<p>Format {escape(mapping.format)}. For messages in which {escape(asked)}.</p>",
            f"<p>Digest <code>{escape(mapping.digest)}</code></p>",
        ]
        for section in (*mapping.entries, *mapping.types):
            parts.append(f"<h2>{escape(section.title)}</h2>")
            if section.note:
                parts.append(f"<p>{escape(section.note)}</p>")
            parts.append(_html_table(COLUMNS, _rows(section)))
        for title, columns, rows in _lists(mapping):
            parts += [f"<h2>{escape(title)}</h2>", _html_table(columns, rows)]
        parts.append(f'<p class="sign">{escape(SIGNATURE)}</p>')
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="rule">{escape(cell)}</td>'
            if column == "Rule"
            else f"<td>{escape(cell)}</td>"
            for column, cell in zip(columns, row, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _rows(section: Section) -> list[tuple[str, ...]]:
    return [
        (line.target, line.source, line.how, line.when, line.failing, line.rule)
        for line in section.lines
    ]


def _lists(mapping: Described) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """The tables used and what is left out, where there is anything."""
    if mapping.tables:
        yield "Tables", ("Table", "Version", "From"), mapping.tables
    if mapping.ignored:
        yield "Left out on purpose", ("Path", "When", "Reason"), mapping.ignored
