"""Submission sets are noted together, each with the digest that stands; on a real journal."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.documents import RegistryUnavailable
from gateway.journal.journal import Journal
from gateway.mapping import serialise
from gateway.model import Identifier
from gateway.opening import open_journal
from gateway.registry import RecordRegistry
from gateway.settings import load_settings
from gateway.sources import SystemClock
from record.store import Record


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    settings = load_settings(environment={}, overrides={"state": str(tmp_path)})
    opened = open_journal(settings, read_only=False)
    yield opened
    opened.close()


def registry(journal: Journal) -> RecordRegistry:
    return RecordRegistry(journal, Record(journal.blobs, now=SystemClock().now, json=serialise))


def test_the_first_of_a_name_stands_whoever_comes_at_the_same_time(journal: Journal) -> None:
    noted = registry(journal)
    with ThreadPoolExecutor(8) as pool:
        stands = list(
            pool.map(
                lambda n: noted.note_submission(
                    f"2.999.{n % 10}", source="x", digest=f"{n:064d}", objects=()
                ),
                range(40),
            )
        )
    for name in range(10):
        of_name = {stands[n] for n in range(40) if n % 10 == name}
        assert of_name == {noted.submission(f"2.999.{name}")}
    assert noted.submission("2.999.404") is None


def test_nothing_is_noted_without_a_journal(journal: Journal) -> None:
    noted = registry(journal)
    journal.read_only = True
    for _ in range(2):
        with pytest.raises(RegistryUnavailable):
            noted.note_submission("2.999.1", source="x", digest="0" * 64, objects=())
    journal.read_only = False
    assert noted.note_submission("2.999.2", source="x", digest="1" * 64, objects=()) == "1" * 64
    # What was refused is not written by the one that comes after it.
    assert noted.submission("2.999.1") is None


def test_an_ins_with_its_key_is_known_by_itself(journal: Journal) -> None:
    known = registry(journal)
    root = "urn:oid:1.2.250.1.213.1.4.10"
    assert known.knows(Identifier(system=root, value="279035121518989"))
    assert not known.knows(Identifier(system=root, value="279035121518988"))
    assert not known.knows(Identifier(system="urn:oid:2.999.1", value="279035121518989"))


def test_what_is_asked_at_one_time_is_answered_of_one_state(journal: Journal) -> None:
    noted = registry(journal)
    with noted.at_one_time():
        assert noted.submission("2.999.1") is None
        with ThreadPoolExecutor(1) as other:
            digest = "1" * 64
            stands = other.submit(
                noted.note_submission, "2.999.1", source="x", digest=digest, objects=()
            ).result(timeout=60)
            assert stands == digest
            assert other.submit(noted.submission, "2.999.1").result(timeout=60) == digest
        assert noted.submission("2.999.1") is None
    assert noted.submission("2.999.1") == digest


def test_what_goes_wrong_at_one_time_leaves_nothing_open(journal: Journal) -> None:
    noted = registry(journal)
    with pytest.raises(ValueError, match="refused"), noted.at_one_time():
        raise ValueError("refused")
    noted.note_submission("2.999.1", source="x", digest="2" * 64, objects=())
    assert noted.submission("2.999.1") == "2" * 64
