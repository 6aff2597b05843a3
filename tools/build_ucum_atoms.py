"""Write gateway/mapping/vocabulary/ucum_atoms.json from UCUM's own ucum-essence.xml.

    python tools/build_ucum_atoms.py ucum-essence.xml

The file is published at https://ucum.org under the licence at https://ucum.org/license; only the
symbols are taken: prefixes, units that take a prefix («metric») and those that do not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lxml import etree

TARGET = Path(__file__).resolve().parent.parent / "gateway/mapping/vocabulary/ucum_atoms.json"
SPACE = "{http://unitsofmeasure.org/ucum-essence}"


def build(source: Path) -> str:
    """The symbols of a ucum-essence.xml as JSON."""
    root = etree.parse(str(source), etree.XMLParser(resolve_entities=False)).getroot()
    units = [*root.iter(f"{SPACE}base-unit"), *root.iter(f"{SPACE}unit")]
    metric = sorted(
        unit.get("Code", "")
        for unit in units
        if unit.tag == f"{SPACE}base-unit" or unit.get("isMetric") == "yes"
    )
    every = {unit.get("Code", "") for unit in units}
    made = {
        "origin": "The Unified Code for Units of Measure, ucum-essence.xml "
        f"{root.get('version')} of {(root.get('revision-date') or '').strip('$ ')}; "
        "copyright Regenstrief Institute, Inc. and the UCUM Organization, https://ucum.org/license",
        "prefixes": sorted(prefix.get("Code", "") for prefix in root.iter(f"{SPACE}prefix")),
        "metric": metric,
        "other": sorted(every - set(metric)),
    }
    return json.dumps(made, ensure_ascii=True, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(build(Path(sys.argv[1])), encoding="utf-8")
