"""HPRIM by folder and by HTTP: both forms, several patients, and everything that is refused."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from adapters.doors.dropfolder import DropFolder
from adapters.hprim.folder import HprimFolderSource
from adapters.hprim.http import HprimHttpSource
from adapters.hprim.settings import HprimFolderSourceSettings, HprimHttpSourceSettings
from gateway.model import Cause, CauseCode, Format
from gateway.ports import Source
from tests.eventually import eventually
from tests.http_client import HTTP
from tests.integration.cda.recording import FixedClock, RecordingIntake
from tests.integration.doors.running import Watched, served, watching
from tests.unit.hprim import samples

AUTHORITIES = {"": "1.2.250.1.999.7"}


@contextlib.contextmanager
def folder(tmp_path: Path, intake: RecordingIntake, **settings: object) -> Iterator[Watched]:
    options: dict[str, object] = {
        "poll_seconds": 0.01, "settle_seconds": 0.02, "authorities": AUTHORITIES, **settings,
    }  # fmt: skip

    def make() -> HprimFolderSource:
        made = HprimFolderSourceSettings(name="labo", path=tmp_path / "drop", **options)  # type: ignore[arg-type]
        return HprimFolderSource(made, intake, FixedClock())

    with watching(make) as watched:
        assert isinstance(watched.source, Source)
        yield watched


def test_both_forms_are_taken(tmp_path: Path) -> None:
    intake = RecordingIntake()
    with folder(tmp_path, intake) as watched:
        watched.put("a.hpr", samples.sante())
        watched.until_gone()
        watched.put("b.txt", samples.medecin())
        watched.until_gone()
        assert watched.names("accepted") == ["a.hpr", "b.txt"]
    (sante, one), (medecin, two) = intake.kept
    assert (one, two) == (samples.sante(), samples.medecin())
    assert sante.format is medecin.format is Format.HPRIM
    assert (sante.kind, sante.control_id, sante.encoding) == ("ORU", "ESSAI.HPR", "windows-1252")
    assert (medecin.kind, medecin.control_id) == ("LAB", "3135110345")
    assert sante.attributes["version"] == "H2.4"
    assert sante.attributes["sender"] == "LABO"
    assert sante.attributes["file_name"] == "a.hpr"
    assert [(each.system, each.value) for each in sante.subject] == [
        ("urn:oid:1.2.250.1.999.7", "398")
    ]
    assert medecin.subject[0].value == "B1042"


def test_a_file_of_several_patients_and_one_that_is_wrong(tmp_path: Path) -> None:
    intake = RecordingIntake()
    wrong = ["P|2|399|||X", "OBX|1|ST|A||before any request"]
    data = samples.sante(samples.patient(1, "398"), wrong, samples.patient(3, "400"))
    with folder(tmp_path, intake) as watched:
        watched.put("three.hpr", data)
        watched.until_gone()
        assert watched.names("accepted") == ["three.hpr", "three.hpr.reason.txt"]
        reason = watched.read("accepted", "three.hpr.reason.txt").decode()
        assert "(1 of 3 messages; the first:): OBX stands before any OBR; place: line 3" in reason
    assert [received.attributes["file_message"] for received, _ in intake.kept] == [
        "1 of 3", "2 of 3", "3 of 3",
    ]  # fmt: skip
    assert [received.refusal is not None for received, _ in intake.kept] == [False, True, False]
    assert [each.subject[0].value for each, _ in intake.kept if each.refusal is None] == [
        "398", "400",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (samples.sante()[:-5], CauseCode.FRAME_TRUNCATED, "le fichier HPRIM est incomplet"),
        (samples.medecin(marks=()), CauseCode.FRAME_TRUNCATED, "le fichier HPRIM est incomplet"),
        (b"MSH|^~\\&|A\rPID|1\r", CauseCode.NOT_THE_FORMAT, "n'est pas un fichier HPRIM lisible"),
        (b"", CauseCode.NOT_THE_FORMAT, "n'est pas un fichier HPRIM lisible"),
        (b"\x00\x01\x02" * 50, CauseCode.NOT_THE_FORMAT, "n'est pas un fichier HPRIM lisible"),
        (
            samples.sante().replace(b"ESSAI~MARIE", b"ESS\x81I~MARIE"),
            CauseCode.CHARACTER_SET,
            "endroit : octet",
        ),
        (
            samples.sante().replace(b"H2.4", b"H3.0"),
            CauseCode.UNSUPPORTED_VERSION,
            "cette version d'HPRIM",
        ),
    ],
)
def test_what_is_refused_says_why(tmp_path: Path, data: bytes, code: CauseCode, words: str) -> None:
    intake = RecordingIntake()
    with folder(tmp_path, intake) as watched:
        watched.put("x.hpr", data)
        watched.until_gone()
        assert watched.names("refused") == ["x.hpr", "x.hpr.reason.txt"]
        reason = watched.read("refused", "x.hpr.reason.txt").decode()
    received, kept = intake.last()
    assert received.refusal is not None
    assert received.refusal.code is code
    assert kept == data
    assert words in reason
    assert "ESSAI~" not in reason


def test_the_character_sets_of_a_source(tmp_path: Path) -> None:
    intake = RecordingIntake()
    with folder(tmp_path, intake, charsets=("cp850",)) as watched:
        watched.put("dos.hpr", samples.sante(encoding="cp850") + b"\x1a")
        watched.until_gone()
        assert watched.names("accepted") == ["dos.hpr"]
    assert intake.last()[0].encoding == "cp850"


def test_a_half_written_file_waits(tmp_path: Path) -> None:
    intake, data = RecordingIntake(), samples.sante()
    with folder(tmp_path, intake, settle_seconds=0.3) as watched:
        with (watched.incoming / "slow.hpr").open("wb") as stream:
            for start in range(0, len(data), 80):
                stream.write(data[start : start + 80])
                stream.flush()
                watched.after_looks(2)
        watched.put("never.hpr.part", data)
        eventually(lambda: watched.names("accepted") == ["slow.hpr"])
    assert intake.accepted() == [data]


def test_too_large_and_too_many(tmp_path: Path) -> None:
    intake = RecordingIntake()
    with folder(tmp_path, intake, file_bytes_max=2048, messages_max=2) as watched:
        watched.put("large.hpr", samples.sante(*[samples.patient()] * 20))
        watched.until_gone()
        watched.put("many.hpr", samples.sante(*[["P|1|7|||N", "OBR|1"]] * 3))
        watched.until_gone()
        assert watched.names("accepted") == []
    codes = [received.refusal.code for received, _ in intake.kept if received.refusal]
    assert codes == [CauseCode.FRAME_OVERSIZED, CauseCode.HOSTILE_CONTENT]


def test_a_disk_that_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    intake = RecordingIntake()
    read = DropFolder.read

    def denied(self: DropFolder, found: object, bytes_max: int) -> bytes | None:
        if found.name == "DUPONT.hpr":  # type: ignore[attr-defined]
            raise PermissionError(13, "Permission denied")
        return read(self, found, bytes_max)  # type: ignore[arg-type]

    monkeypatch.setattr(DropFolder, "read", denied)
    with caplog.at_level(logging.WARNING), folder(tmp_path, intake) as watched:
        watched.put("DUPONT.hpr", samples.sante())
        watched.put("other.hpr", samples.medecin())
        eventually(lambda: watched.names("accepted") == ["other.hpr"])
        eventually(
            lambda: watched.source.left() == {"DUPONT.hpr": "cannot be read (Permission denied)"}
        )
    assert "DUPONT" not in caplog.text
    assert "Permission denied" in caplog.text


# --- over HTTP ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hprim-http")


@pytest.fixture
def http(spool: Path) -> Iterator[tuple[str, RecordingIntake]]:
    intake = RecordingIntake()

    def make() -> list[HprimHttpSource]:
        settings = HprimHttpSourceSettings(
            name="labo", spool_folder=spool, authorities=AUTHORITIES, file_bytes_max=64 << 10
        )
        return [HprimHttpSource(settings, intake, FixedClock())]

    with served("hprim", make) as (url, _):  # type: ignore[arg-type]
        yield url, intake


def test_over_http(http: tuple[str, RecordingIntake]) -> None:
    url, intake = http

    def post(data: bytes, kind: str = "text/plain") -> httpx2.Response:
        return HTTP.post(url, content=data, headers={"Content-Type": kind}, timeout=20)

    first = post(samples.sante())
    assert first.status_code == 201
    assert first.json() == {"message_id": 1, "disposition": "accepted", "control_id": "ESSAI.HPR"}
    assert first.headers["location"] == "/messages/1"
    assert post(samples.sante()).status_code == 200
    two = post(samples.sante(samples.patient(1, "8"), samples.patient(2, "9")))
    assert [each["disposition"] for each in two.json()["messages"]] == ["accepted"] * 2
    latin = samples.medecin("é", encoding="iso8859-15")
    assert post(latin, "text/plain; charset=iso-8859-15").status_code == 201
    assert intake.last()[0].encoding == "iso-8859-15"
    assert post(latin, "text/plain; charset=utf-8").status_code == 400
    assert post(latin, "text/plain; charset=klingon").status_code == 400
    for data, kind, status in (
        (samples.sante()[:-5], "text/plain", 400),
        (b"<a/>", "text/plain", 400),
        (samples.sante(), "application/xml", 415),
        (b"x" * (65 << 10), "text/plain", 413),
        (samples.sante().replace(b"H2.4", b"H3.0"), "text/plain", 422),
    ):
        answer = post(data, kind)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "MARIE" not in answer.text
        assert json.loads(answer.content)["detail"]
    partly = post(samples.sante(["P|1|7|||N", "OBX|1"], samples.patient(2, "10")))
    assert partly.status_code == 201
    assert [each["disposition"] for each in partly.json()["messages"]] == ["refused", "accepted"]
    intake.permission = Cause(code=CauseCode.FEEDING_OPPOSED, detail="opposed")
    assert post(samples.sante(samples.patient(1, "11"))).status_code == 403
    intake.permission, intake.available = None, False
    gone = post(samples.sante(samples.patient(1, "12")))
    assert (gone.status_code, gone.headers["retry-after"]) == (503, "5")
