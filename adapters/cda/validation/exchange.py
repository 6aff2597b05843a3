"""Reports for other programs and for a browser: SARIF 2.1.0 (OASIS), and one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from adapters.cda.rendering.page import style
from adapters.cda.validation.findings import Finding, Level, Report

_LEVELS = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "note"}
_WORDS = {Level.ERROR: "Erreur", Level.WARNING: "Avertissement", Level.INFO: "Information"}


def sarif_of(reports: Sequence[tuple[str, Report]]) -> dict[str, Any]:
    """One run over all documents, by the path of each. What could not be judged is a
    notification of the tool."""
    rules: dict[str, dict[str, Any]] = {}
    results = []
    notes: list[dict[str, Any]] = []
    for path, report in reports:
        for each in report.findings:
            name = f"{each.origin}/{each.rule}"
            rules.setdefault(name, {"id": name, "name": each.rule})
            results.append(_result(path, each, name))
        notes += [{"level": "warning", "message": {"text": said}} for said in report.problems]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "Écluse", "language": "fr", "rules": list(rules.values())}
                },
                "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
                "results": results,
            }
        ],
    }


def _result(path: str, finding: Finding, name: str) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(path)}}
    if finding.line:
        physical["region"] = {"startLine": finding.line}
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.xpath:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.xpath, "kind": "element"}]
    return {
        "ruleId": name,
        "level": _LEVELS[finding.level],
        "message": {"text": finding.text},
        "locations": [location],
    }


def page_of(reports: Sequence[tuple[str, Report]]) -> str:
    """A page that refers to nothing: each document with its findings, grouped."""
    parts = [
        '<!doctype html><html lang="fr"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>Contrôle de documents CDA</title>"
        f"<style>{style()}{_STYLE}</style></head><body><main><h1>Contrôle de documents CDA</h1>"
    ]
    for name, report in reports:
        parts.append(
            f"<section><h2>{escape(name)}</h2><p>{report.errors} erreur(s), "
            f"{report.warnings} avertissement(s). Jugé par : {escape(', '.join(report.origins))}."
            "</p>"
        )
        parts += [_group(group.findings) for group in report.groups()]
        parts += [f'<p class="quiet">Non jugé : {escape(said)}</p>' for said in report.problems]
        parts.append("</section>")
    return "".join([*parts, "</main></body></html>"])


_STYLE = (
    ".found{border-left:4px solid #5b646d;padding:.2rem .9rem;margin:.8rem 0}"
    ".found.error{border-color:#b3261e}.found.warning{border-color:#9a6700}.found p{margin:.2rem 0}"
)


def _group(findings: Sequence[Finding]) -> str:
    first = findings[0]
    places = "".join(
        f"<li>{f'ligne {each.line} ' if each.line else ''}<code>{escape(each.xpath)}</code></li>"
        for each in findings[:20]
        if each.line or each.xpath
    )
    return (
        f'<div class="found {first.level.value}"><p><b>{_WORDS[first.level]}.</b> '
        f'{escape(first.shown)}</p><p class="quiet">{escape(first.origin)} {escape(first.rule)}'
        f"</p><ul>{places}</ul></div>"
    )
