"""A site with a table of its own for local codes, as an engineer keeps it."""

from __future__ import annotations

from pathlib import Path

TABLE = """\
table: chu/analyses
version: 1.0.0
source: "the laboratory's list of analyses"
licence: CC0-1.0
system: http://loinc.org
rows:
  GLU: {code: 2345-7, display: "Glucose [Mass/volume] in Serum or Plasma"}
"""
OVERLAY = """\
extends: hl7.results
override:
  "observation.code":
    from: OBX-3
    translate: {table: chu/analyses, unknown: keep-and-flag}
    missing: {absent: unknown}
"""
ROW = '  K: {code: 2823-3, display: "Potassium [Moles/volume] in Serum or Plasma"}\n'
WRONG = "  K: {kode: 2823-3}\n"


def write_site(folder: Path) -> Path:
    """Write the site ``chu`` below a folder; the folder of sites."""
    site = folder / "sites" / "chu"
    (site / "terminology").mkdir(parents=True)
    (site / "results.yaml").write_text(OVERLAY, encoding="utf-8")
    (site / "terminology" / "analyses.yaml").write_text(TABLE, encoding="utf-8")
    return folder / "sites"


def configuration(sites: Path) -> str:
    """The block of the configuration that names it."""
    return f"mappings: {{sites: '{sites}', site: chu, versions_kept: 3}}\n"
