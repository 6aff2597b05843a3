"""Dates and times keep their precision and their offset."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping.vocabulary import times
from gateway.mapping.vocabulary.invalid import Invalid

PARIS = "Europe/Paris"


@pytest.mark.parametrize(
    ("text", "expected", "note"),
    [
        ("2024", "2024", ""),
        ("202403", "2024-03", ""),
        ("20240306", "2024-03-06", ""),
        ("2024-03-06", "2024-03-06", ""),
        ("2024030611", "2024-03-06", "precision-reduced"),
        ("202403061111", "2024-03-06T11:11:00+01:00", ""),
        ("20240706111154", "2024-07-06T11:11:54+02:00", ""),
        ("20240306111154.1200", "2024-03-06T11:11:54.1200+01:00", ""),
        ("20240306111154-0500", "2024-03-06T11:11:54-05:00", ""),
        ("20240306111154+0000", "2024-03-06T11:11:54+00:00", ""),
        ("2024-03-06T11:11:54Z", "2024-03-06T11:11:54Z", ""),
        ("2024-03-06T11:11:54.5+01:00", "2024-03-06T11:11:54.5+01:00", ""),
        ("19790000", "1979", "precision-reduced"),
        ("19790500", "1979-05", "precision-reduced"),
        (" 20240306 ", "2024-03-06", ""),
        ("20241027023000", "2024-10-27T02:30:00+02:00", "ambiguous-local-time"),
        ("20240331023000", "2024-03-31T02:30:00+01:00", "ambiguous-local-time"),
    ],
)
def test_date_time(text: str, expected: str, note: str) -> None:
    assert times.date_time(text, PARIS) == (expected, note)


def test_without_a_zone_the_time_of_day_is_left_off() -> None:
    assert times.date_time("20240306111154", "") == ("2024-03-06", "no-zone")
    assert times.date_time("20240306111154+0100", "") == ("2024-03-06T11:11:54+01:00", "")


def test_a_zone_has_its_history() -> None:
    assert times.date_time("19750706120000", PARIS)[0].endswith("+01:00")
    assert times.date_time("20240306120000", "America/Guadeloupe")[0].endswith("-04:00")
    with pytest.raises(Invalid):
        times.date_time("20240306120000", "Europe/Lutece")


@pytest.mark.parametrize(
    "text",
    ["", "x", "0000", "00000000", "20241301", "20240230", "2024030624", "202403061160",
     "20240306111161", "2024/03/06", "20240306111154+2500", "2024-03-06T11:11:54 +01:00x",
     "9" * 60],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(Invalid) as wrong:
        times.date_time(text, PARIS)
    assert len(text.strip()) < 5 or text.strip() not in str(wrong.value)


def test_date_leaves_the_time_off() -> None:
    assert times.date("197903281530+0100") == ("1979-03-28", "")
    assert times.date("1979") == ("1979", "")


def test_instant() -> None:
    assert times.instant("20240306111154", PARIS) == ("2024-03-06T11:11:54+01:00", "")
    assert times.instant("202403061111", PARIS) == ("2024-03-06T11:11:00+01:00", "precision-filled")
    with pytest.raises(Invalid):
        times.instant("20240306", PARIS)


def test_time() -> None:
    assert times.time("1530") == ("15:30:00", "")
    assert times.time("153001.25") == ("15:30:01.25", "")
    assert times.time("1530+0100") == ("15:30:00", "offset-left-out")
    for wrong in ("15", "2430", "15h30", ""):
        with pytest.raises(Invalid):
            times.time(wrong)


@pytest.mark.parametrize(
    ("first", "second", "after"),
    [
        ("2024-03-06", "2024-03-05", True),
        ("2024-03-06", "2024-03-06T01:00:00+01:00", False),
        ("2024-03-06T10:00:00+01:00", "2024-03-06T09:30:00Z", False),
        ("2024-03-06T10:00:00+01:00", "2024-03-06T08:30:00Z", True),
        ("2024-03", "2024-02-11", True),
        ("2024", "2023-12-31", True),
    ],
)
def test_is_after(first: str, second: str, after: bool) -> None:
    assert times.is_after(first, second) is after


@given(st.datetimes())
def test_a_stamp_says_the_same_moment(moment: datetime) -> None:
    text = moment.strftime("%Y%m%d%H%M%S").zfill(14)
    found, _ = times.date_time(f"{text}+0000", "")
    assert found[:19] == f"{moment.year:04d}-{moment.strftime('%m-%dT%H:%M:%S')}"


ZONES = ("Europe/Paris", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu")
CHANGES = (
    datetime(1911, 3, 11), datetime(1940, 6, 14), datetime(2024, 3, 10), datetime(2024, 3, 31),
    datetime(2024, 4, 7), datetime(2024, 10, 6), datetime(2024, 10, 27), datetime(2024, 11, 3),
)  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
def test_the_offset_of_an_hour_is_that_of_each_of_its_moments(zone: str) -> None:
    asked = ZoneInfo(zone)
    for day in CHANGES:
        for minutes in range(-120, 1560, 7):
            moment = day + timedelta(minutes=minutes, seconds=minutes % 60)
            found, note = times.date_time(moment.strftime("%Y%m%d%H%M%S"), zone)
            offsets = [moment.replace(tzinfo=asked, fold=fold).utcoffset() for fold in (0, 1)]
            assert offsets[0] is not None
            minute = round(offsets[0].total_seconds() / 60)
            sign = "-" if minute < 0 else "+"
            assert found[19:] == f"{sign}{abs(minute) // 60:02d}:{abs(minute) % 60:02d}"
            assert note == ("" if offsets[0] == offsets[1] else "ambiguous-local-time")


@pytest.mark.parametrize(
    "text",
    ["20240230111111", "20241301111111", "20240306241111", "20240306116011", "00000101000000"],
)
def test_fourteen_digits_that_are_no_time(text: str) -> None:
    with pytest.raises(Invalid):
        times.date_time(text, PARIS)
