"""The checked-in table of CDA's structure: true to the schemas, and made again from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from adapters.cda.structure import structure


def test_the_table_is_what_the_tool_makes_of_the_schemas(
    repository: Path, shared: Path, tmp_path: Path
) -> None:
    made = tmp_path / "structure.json"
    subprocess.run(
        [
            sys.executable,
            str(repository / "tools" / "build_cda_structure.py"),
            str(shared / "corpora" / "cisis" / "infrastructure" / "cda"),
            "--out",
            str(made),
        ],
        check=True,
        capture_output=True,
    )
    checked_in = repository / "adapters" / "cda" / "structure.json"
    assert made.read_bytes() == checked_in.read_bytes()
    assert "Derived by tools/build_cda_structure.py" in json.loads(made.read_text())["origin"]


def test_types_children_and_repetition() -> None:
    known = structure()
    assert known.child(["ClinicalDocument"], "author") == (("Author",), True)
    assert known.child(["ClinicalDocument"], "custodian") == (("Custodian",), False)
    assert known.child(["Observation"], "value") == (("ANY",), True)
    # What an xsi:type may put there counts: a value's low is one of several types.
    types, repeats = known.child(["ANY"], "low")
    assert {"IVXB_PQ", "IVXB_TS"} <= set(types)
    assert not repeats
    assert known.child(["CE"], "translation") == (("CD",), True)
    assert known.child(["Patient"], "sdtc:deceasedInd") == (("BL",), False)
    assert known.child(["Patient"], "deceasedInd") == ((), False)
    assert known.child(["CE"], "pharm:originalText") == (("ED",), False)


def test_attributes_are_inherited_and_taken_away() -> None:
    known = structure()
    assert known.has_attribute(["CE"], "nullFlavor")
    assert known.has_attribute(["CE"], "displayName")
    assert "displayName" not in known.types["CS"].attributes
    assert known.types["IVL_TS"].is_a("TS")
    assert not known.types["TS"].is_a("IVL_TS")
    assert known.has_text(["ST"])
    assert not known.has_text(["II"])
