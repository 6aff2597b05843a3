"""No two patients ever share an entry, whatever numbers their messages leave out.

An entry is replaced by its id. What is told without a number (a result of a bedside device, a
report of a small laboratory) must not be known by its code or its date alone: then one patient's
potassium would take the place of another's.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.deployment.loading import checked_mappings
from gateway.formats import languages, readers
from gateway.mapping import Library, MappingContext, MappingRejected, packaged_mappings
from gateway.mapping.findings import Findings
from gateway.mapping.twins import tests_in as cases_in
from gateway.model import Format, Payload
from gateway.ports import Unreadable

CONTEXT = MappingContext(zone="Europe/Paris", source="labo")
SHARED_BY_ALL = {"Practitioner", "PractitionerRole", "Organization", "Location", "Device"}
"""What is of no patient: the same person, house or machine is the same entry."""
NAMED_BY_THEMSELVES = {"Patient", "ImagingStudy"}
NUMBERS = {
    "ORC": (2, 3, 4, 8), "OBR": (2, 3, 29, 53), "SPM": (2, 3, 30, 31), "PV1": (5, 19, 50),
    "PID": (18,), "PRB": (4,), "GOL": (4,), "PTH": (3,), "IAM": (7,), "DG1": (20,), "PR1": (19,),
    "RXD": (7,), "NK1": (33,), "SAC": (3, 4), "IN1": (49,), "OBX": (21,), "ACC": (13,), "ZBE": (1,), "MRG": (1, 3, 4, 5),
}  # fmt: skip
"""The fields of HL7 v2 that give a thing a number."""


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load([packaged_mappings()], languages(), checked=checked_mappings())


def given(library: Library, folder: str) -> list[tuple[str, str]]:
    """Name and message of every test beside the shipped mappings of a folder."""
    found = []
    for path in sorted(Path(str(each)) for each in library.twins):
        if path.parent.name == folder:
            for case in cases_in(path, Findings()):
                node = case.get("given")
                if node is not None:
                    found.append((f"{path.name}:{case.place.line}", getattr(node, "text", "")))
    assert found
    return found


def ids(library: Library, kind: Format, text: str) -> set[str]:
    """The ids of what one message says of its patient; none when it is refused."""
    try:
        root = readers()[kind].read([Payload.from_bytes(text.encode())])
        program = library.match(root, kind)
        mapped = program.run(root, CONTEXT) if program is not None else None
    except (Unreadable, MappingRejected):
        return set()
    entries = mapped.entries if mapped is not None else ()
    return {
        f"{entry.resource['resourceType']}/{entry.resource['id']}"
        for entry in entries
        if entry.resource["resourceType"] not in SHARED_BY_ALL
    }


def unnumbered(message: str, *, patient: str, control: str) -> str:
    """An HL7 v2 message without any number, of that patient."""
    segments = []
    for line in message.splitlines():
        fields = line.split("|")
        for number in NUMBERS.get(fields[0], ()):
            if number < len(fields):
                fields[number] = ""
        if fields[0] == "MSH" and len(fields) > 9:
            fields[9] = control
        if fields[0] == "PID":
            fields += [""] * (6 - len(fields))
            fields[2], fields[3], fields[4] = "", patient, ""
        segments.append("|".join(fields))
    return "\r".join(segments)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1^^^CHU&1.2.250.1.9&ISO^PI", "2^^^CHU&1.2.250.1.9&ISO^PI"),
        ("1^^^CHU&1.2.250.1.9&ISO^PI", "1^^^CLINIQUE&1.2.250.1.8&ISO^PI"),
        ("", ""),
    ],
    ids=["other numbers", "the same number of another house", "no number"],
)
def test_two_patients_share_no_entry_of_hl7_messages_without_numbers(
    library: Library, one: str, other: str
) -> None:
    shared, seen = {}, 0
    for name, message in given(library, "hl7"):
        if "|MDM^" in message or "|SIU^" in message or "|REF^" in message:
            continue  # a document, an appointment and a referral are their own number
        first = ids(library, Format.HL7V2, unnumbered(message, patient=one, control="A"))
        second = ids(library, Format.HL7V2, unnumbered(message, patient=other, control="B"))
        seen += len(first)
        if first & second:
            shared[name] = sorted(first & second)
    assert not shared, "\n".join(f"{k} {v}" for k, v in shared.items())
    assert seen > 100


def of_another(document: str) -> str:
    """The same document under another id, as it were another patient's."""
    text = document.replace('extension="2790', 'extension="1790')
    return re.sub(r'(<id root="[^"]*)"', r'\g<1>.7"', text, count=1)


def test_two_patients_share_no_entry_of_cda_documents_without_a_set_id(library: Library) -> None:
    shared, seen = {}, 0
    for name, document in given(library, "cda"):
        bare = re.sub(r"<setId [^>]*/>", "", document)
        bare = re.sub(r"<encompassingEncounter>\s*<id [^>]*/>", "<encompassingEncounter>", bare)
        first = ids(library, Format.CDA, bare)
        second = ids(library, Format.CDA, of_another(bare))
        seen += len(first)
        # The patient stands as it was; a study has the number that its device gave it.
        both = {each for each in first & second if each.split("/")[0] not in NAMED_BY_THEMSELVES}
        if both:
            shared[name] = sorted(both)
    assert not shared, "\n".join(f"{k} {v}" for k, v in shared.items())
    assert seen > 50


def test_two_patients_share_no_entry_of_hprim_messages_without_numbers(library: Library) -> None:
    for name, message in given(library, "hprim"):
        lines = message.splitlines()
        if lines[0].startswith("H|"):
            first, second = (
                "\r".join(
                    re.sub(r"^(OBR\|[^|]*\|)[^|]*\|[^|]*", r"\1|", line).replace(
                        "P|1|", f"P|1|{patient}", 1
                    )
                    for line in lines
                )
                for patient in ("X", "Y")
            )
        else:
            lines[8] = ""
            first = "\r\n".join(lines)
            lines[0], lines[1] = "AUTRE", "PERSONNE"
            second = "\r\n".join(lines)
        one, other = ids(library, Format.HPRIM, first), ids(library, Format.HPRIM, second)
        assert not one & other, name
