"""Entries that are named as bytes are those that are named as values."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.entries import entries_bytes, entries_of
from gateway.model import Entry
from gateway.serialise import DecimalText
from gateway.subjects import rewrite
from gateway.written import name, write

OLD, OTHER, NEW = "Patient/old", "Patient/other", "Patient/new"

# What a sender may write into a text to be taken for a reference.
_texts = st.one_of(
    st.sampled_from(
        [
            OLD,
            OTHER,
            NEW,
            "old",
            '"reference":"Patient/old"',
            '\\"reference":"Patient/old"',
            "é\\",
            '"',
        ]
    ),
    st.text(alphabet='aé"\\:{}\n', max_size=6),
)
_values = st.recursive(
    st.one_of(_texts, st.integers(-5, 5), st.booleans(), st.just(DecimalText("1.10"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["reference", "id", "x", 'a"b', "note"]), inner, max_size=4
        ),
    ),
    max_leaves=8,
)
_resources = st.builds(
    lambda kind, number, more: {**more, "resourceType": kind, "id": number},
    st.sampled_from(["Patient", "Observation"]),
    st.sampled_from(["old", "other", "o1"]),
    st.dictionaries(st.sampled_from(["subject", "reference", "note", "link"]), _values, max_size=3),
)
_entries = st.lists(
    st.builds(lambda r, c: Entry(resource=r, create_only=c), _resources, st.booleans()), max_size=4
)
_renamings = st.sampled_from(
    [
        {},
        {OLD: NEW},
        {OLD: OLD},
        {OLD: NEW, OTHER: NEW},
        {OLD: OTHER, OTHER: OLD},
        {'Patient/"q': NEW},
    ]
)


@given(_entries, _renamings, st.sampled_from([frozenset(), frozenset({OTHER})]))
def test_bytes_and_values_are_named_alike(
    entries: list[Entry], renamed: dict[str, str], drop: frozenset[str]
) -> None:
    named = name(write(entries), renamed, drop=drop)
    rewritten = rewrite(entries, renamed, drop=drop)
    assert named.kept == entries_bytes(rewritten)
    assert named.digest == name(write(rewritten), {}).digest


def test_what_is_kept_is_read_again() -> None:
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": "o",
        "subject": {"reference": OLD},
        "valueQuantity": {"value": DecimalText("1.10")},
    }
    named = name(write([Entry(resource=resource, create_only=True)]), {OLD: NEW})
    assert entries_of(named.kept) == (
        Entry(resource={**resource, "subject": {"reference": NEW}}, create_only=True),
    )


def test_nothing_is_written_as_nothing() -> None:
    assert entries_of(name(write([]), {}).kept) == ()
