"""Every leaf is found again under its own path, and an ignore of its path covers it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats import encoders, inventories, readers
from gateway.mapping import packaged_mappings
from gateway.mapping.document import Table, Text, read_list
from gateway.mapping.findings import Findings
from gateway.model import Format, Payload
from gateway.ports import Scope, Unreadable

FORMATS = {"hl7": Format.HL7V2, "cda": Format.CDA, "dicom": Format.DICOM, "hprim": Format.HPRIM}


def given_roots(form: Format, folder: Path) -> list[Scope]:
    """The messages of the shipped tests of one format, read."""
    roots = []
    for path in sorted(folder.glob("*.test.yaml")):
        for node in read_list(path, path.name, Findings()):
            text = node.get("given") if isinstance(node, Table) else None
            if not isinstance(text, Text):
                continue
            encode = encoders().get(form)
            data = text.text.replace("\n", "\r") if form is Format.HL7V2 else text.text
            payloads = encode(text.text) if encode else [Payload.from_bytes(data.encode())]
            try:
                roots.append(readers()[form].read(payloads))
            except Unreadable:
                continue  # a test of what cannot be read
    return roots


@pytest.mark.parametrize("name", FORMATS)
def test_every_leaf_is_found_by_its_path(name: str) -> None:
    form = FORMATS[name]
    inventory, counted = inventories()[form], 0
    for root in given_roots(form, packaged_mappings() / name):
        keys = set()
        for leaf in inventory.leaves(root):
            assert leaf.key not in keys, leaf
            keys.add(leaf.key)
            [place] = inventory.places(leaf.path, root)
            assert leaf.key[: len(place)] == place, leaf
            assert 0 < leaf.heard <= len(leaf.key), leaf
            assert len(place) >= leaf.heard, leaf
            counted += 1
    assert counted > 50


PIECES = st.text('ab^&~|"\\', max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=6))
def test_hl7_leaves_of_any_text_are_distinct_and_readable(fields: list[str]) -> None:
    message = r"MSH|^~\&|A|B|C|D|2024||ADT^A01|1|P|2.5" + "\rPID|1||" + "|".join(fields) + "\r"
    root = readers()[Format.HL7V2].read([Payload.from_bytes(message.encode())])
    inventory = inventories()[Format.HL7V2]
    leaves = list(inventory.leaves(root))
    assert len({leaf.key for leaf in leaves}) == len(leaves)
    for leaf in leaves:
        [place] = inventory.places(leaf.path, root)
        assert leaf.key[: len(place)] == place
        assert inventory.covers(leaf.generic, root)(leaf)
