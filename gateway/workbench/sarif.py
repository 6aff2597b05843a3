"""Findings as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.mapping import Finding, TwinResult

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

MEANINGS = {
    "ambiguous": "Two mappings could take the same message.",
    "binding": "R4 binds the codes of the element, and this one is not of them.",
    "condition": "A text is no condition.",
    "cyclic-type": "A type uses itself.",
    "cyclic-use": "A mapping or block uses itself.",
    "defined-twice": "A name is defined twice.",
    "duplicate-key": "A key stands twice.",
    "fallible": "A step can fail, and nothing says what then.",
    "missing-element": "R4 requires an element that no rule gives.",
    "missing-key": "A key that is needed is not there.",
    "path": "A source path is not of the format's grammar.",
    "reason": "A constant needs a written reason.",
    "test-failed": "A test beside a mapping fails.",
    "type": "A value of this type cannot stand there.",
    "unknown-element": "R4 has no such element.",
    "unknown-key": "The language has no such key.",
    "unknown-table": "There is no such terminology table.",
    "unreachable": "A rule can never give anything.",
    "not-yaml": "The file is not the YAML that a mapping is written in.",
}


def sarif(
    findings: Sequence[Finding], failed: Sequence[TwinResult], version: str
) -> dict[str, Any]:
    """One SARIF log with one run: a result for each finding and each failed test.

    ``version`` is that of Écluse. Paths below the working folder are told relative to it.
    """
    results = [
        _result(each.code, each.severity, _sentence(each), each.file, (each.line, each.column))
        for each in findings
    ]
    results += [
        _result(
            "test-failed",
            "error",
            "; ".join((each.name, *each.differences)),
            each.file,
            (each.line, 1),
        )
        for each in failed
    ]
    codes = sorted({result["ruleId"] for result in results})
    for result in results:
        result["ruleIndex"] = codes.index(result["ruleId"])
    driver = {
        "name": "ecluse mapping check",
        "semanticVersion": version,
        "rules": [
            {"id": code, "shortDescription": {"text": MEANINGS.get(code, code.replace("-", " "))}}
            for code in codes
        ],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _sentence(finding: Finding) -> str:
    return f"{finding.message} ({finding.suggestion})" if finding.suggestion else finding.message


def _result(
    code: str, severity: str, message: str, file: str, at: tuple[int, int]
) -> dict[str, Any]:
    line, column = at
    region = {"startLine": max(line, 1), "startColumn": max(column, 1)}
    location = {"artifactLocation": {"uri": _uri(file)}, "region": region}
    return {
        "ruleId": code,
        "level": severity,
        "message": {"text": message},
        "locations": [{"physicalLocation": location}],
    }


def _uri(file: str) -> str:
    path = Path(file)
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.resolve().as_uri()
