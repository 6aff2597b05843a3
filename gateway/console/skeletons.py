"""New files of a site: what stands in them before a person writes."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import HTTPException

from gateway.deployment.drafts import Opened
from gateway.mapping.document import Table, Text, compose
from gateway.mapping.findings import Findings

_MAPPING = """\
mapping: {name}
version: 1.0.0
source: {{format: hl7v2, versions: ["2.5"], match: {{MSH-9.1: [ADT], MSH-9.2: [A01]}}}}
use: [hl7.datatypes, hl7.patient]
defaults: {{invalid: flag, unknown: flag}}
entries:
  - use: patient
"""
_OVERLAY = """\
extends: {mapping}
# By target path, for example:
# override: {{"Observation.code.translate.table": {site}/codes}}
override: {{}}
append: {{}}
remove: []
"""
_TABLE = """\
table: {table}
version: {version}
source: "{site}"
licence: CC0-1.0
system: {system}
# These rows are added to those that ship; equal codes are replaced.
rows: {{}}
"""


def address(draft_id: str, *, file: str = "", message: str = "", line: int = 0) -> str:
    """The page of a draft."""
    given = {"file": file, "message": message, "line": str(line or "")}
    pairs = {name: value for name, value in given.items() if value}
    return f"/mappings/drafts/{draft_id}" + (f"?{urlencode(pairs)}" if pairs else "")


def new_file(opened: Opened, name: str, of: str) -> tuple[str, str]:
    """Path and text of a new file of the site. Raises HTTPException."""
    site, root = opened.after.site, opened.after.site_root
    if not site:
        raise HTTPException(422, "No site is named in the settings (mappings.site).")
    if of:
        return _over(opened, of)
    if not name:
        raise HTTPException(422, "A new file needs a name.")
    path = root + name.removeprefix(root)
    if not path.endswith(".yaml"):
        path += ".yaml"
    plain = path.removeprefix(root).removesuffix(".yaml")
    if plain.startswith("terminology/"):
        table = f"{site}/{plain.removeprefix('terminology/')}"
        return path, _TABLE.format(
            table=table, version="1.0.0", site=site, system="http://loinc.org"
        )
    return path, _MAPPING.format(name=f"{site}.{plain.replace('/', '.')}")


def _over(opened: Opened, of: str) -> tuple[str, str]:
    """A file of the site that changes what another file holds."""
    site, root = opened.after.site, opened.after.site_root
    text = opened.text(of)
    if text is None:
        raise HTTPException(404, f"There is no file {of}.")
    tree = compose(text, of, Findings())
    if not isinstance(tree, Table):
        raise HTTPException(422, "That file cannot be read: mend it first.")
    inside = of.split("/", 1)[-1]
    table, mapping = tree.get("table"), tree.get("mapping")
    if isinstance(table, Text):
        system, version = tree.get("system"), tree.get("version")
        return f"{root}{inside}", _TABLE.format(
            table=table.text,
            version=version.text if isinstance(version, Text) else "1.0.0",
            site=site,
            system=system.text if isinstance(system, Text) else '""',
        )
    if not isinstance(mapping, Text):
        raise HTTPException(422, "Only mappings and tables are changed for a site.")
    return f"{root}{inside}", _OVERLAY.format(mapping=mapping.text, site=site)
