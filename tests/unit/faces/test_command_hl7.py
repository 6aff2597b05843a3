"""``ecluse hl7 show`` and ``ecluse hl7 check`` as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.cli.output import Code

MESSAGE = (
    "MSH|^~\\&|SGL|LABO|E|CHU|20261120093000+0100||ORU^R01^ORU_R01|C1|P|2.5|||||FRA|8859/15\r"
    "PID|1||111^^^X&1.2.3&ISO^PI~22^^^Y&2.999&ISO^PI||NOËL&de^Zoé||19850314|F|||\"\"\r"
    "OBR|1|B1^C|B1^L|24323-8^Bilan^LN|||20261120093000+0100\r"
    "OBX|1|FT|A^B^LN||a\\.br\\b \\T\\ c||||||F\r"
    "NTE|1||à jeun\r"
    "ZZZ|1|x^y\r"
).encode("iso8859-15")  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "one.hl7"
    path.write_bytes(MESSAGE)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["hl7", *map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_show_prints_groups_segments_fields_and_parts(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    code, out, err = run(capsys, "show", file)
    assert (code, err) == (0, "")
    for told in (
        "one.hl7#1  ORU^R01 · 2.5 · ORU_R01 · 8859/15", "PATIENT_RESULT(1)", "OBSERVATION(1)",
        "PID Patient identification", "PID-3 Patient identifier list", "PID-3(2).4.2 Universal id",
        "PID-5.1.1 Surname ST  NOËL", "PID-5.2 Given name ST  Zoé", 'PID-11 Patient address XAD  ""',
        "null: deletes", "OBX-5 Observation value FT  a⏎b & c", "NTE-3 Comment FT  à jeun",
        "ZZZ-2.2  y",
    ):  # fmt: skip
        assert told in out, told
    assert "\x1b[" not in out


def test_show_in_colour_on_a_terminal(file: Path) -> None:
    import pty

    master, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "hl7", "show", str(file)],
        stdout=terminal, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(terminal)
        out = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:
                break
            if not block:
                break
            out += block
    assert process.returncode == 0
    assert b"\x1b[" in out
    assert "Zoé".encode() in out


def test_show_raw_gives_what_is_written_and_where(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    _, out, _ = run(capsys, "show", file, "--raw")
    begin = MESSAGE.index(b"a\\.br")
    assert f"OBX-5 @{begin}+13 Observation value FT  a\\.br\\b \\T\\ c" in out
    assert (
        f"PID-5 @{MESSAGE.index(bytes('NOËL', 'iso8859-15'))}+11 Patient name XPN  NOËL&de^Zoé"
        in out
    )


def part(fields: list[dict[str, Any]], path: str) -> dict[str, Any]:
    for each in fields:
        if each["path"] == path:
            return each
        if path.startswith(each["path"]) and "parts" in each:
            return part(each["parts"], path)
    raise KeyError(path)


def test_show_as_json(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_bytes(MESSAGE + MESSAGE.replace(b"|C1|", b"|C2|"))
    code, out, _ = run(capsys, "show", file, "--json")
    first, second = json.loads(out)
    assert code == 0
    assert (first["control_id"], second["control_id"]) == ("C1", "C2")
    assert (first["type"], first["segments"], first["bytes"]) == ("ORU^R01", 6, len(MESSAGE))
    [group] = [each for each in first["content"] if "group" in each]
    assert group["group"] == "PATIENT_RESULT"
    [patient] = [each for each in group["content"] if each.get("group") == "PATIENT"]
    [pid] = patient["content"]
    assert part(pid["fields"], "PID-5.1.2")["text"] == "de"
    assert part(pid["fields"], "PID-11")["null"] is True
    given = part(pid["fields"], "PID-5.2")
    assert MESSAGE[given["offset"] :][: given["length"]] == "Zoé".encode("iso8859-15")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("PID-5.2", ["Zoé"]),
        ("PID-5", ["NOËL&de^Zoé"]),
        ("PID-3", ["111^^^X&1.2.3&ISO^PI"]),
        ("PID-3(*).1", ["111", "22"]),
        ("PID-3(4.2=2.999).1", ["22"]),
        ("PID-11", ['""']),
        ("OBX-5", ["a⏎b & c"]),
        ("ZZZ-2.1", ["x"]),
        ("NTE", ["NTE|1||à jeun"]),
        ("PV1-2", []),
        ("PID-30", []),
    ],
)
def test_show_one_path(
    capsys: pytest.CaptureFixture[str], file: Path, path: str, expected: list[str]
) -> None:
    code, out, _ = run(capsys, "show", file, "--path", path)
    assert (code, out.splitlines()) == (0, expected)
    code, out, _ = run(capsys, "show", file, "--path", path, "--json")
    assert [each["text"] for each in json.loads(out)] == expected


@pytest.mark.parametrize(
    ("path", "told"),
    [("PID.5", "did you mean PID-5?"), ("PDI-3", "no segment PDI"), ("PID-99", "PID has 40 fields"),
     ("$.1", "begins with a segment")],
)  # fmt: skip
def test_show_a_wrong_path(
    capsys: pytest.CaptureFixture[str], file: Path, path: str, told: str
) -> None:
    code, out, err = run(capsys, "show", file, "--path", path)
    assert (code, out) == (Code.USAGE, "")
    assert told in err


def test_show_undecodable_bytes_as_what_they_are(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    file.write_bytes(MESSAGE.replace(b"8859/15", b"UNICODE UTF-8"))
    code, out, err = run(capsys, "show", file)
    assert code == Code.FINDINGS
    assert "NO‹CB›L" in out
    assert "Zo‹E9›" in out
    assert "3 bytes cannot be decoded: the byte at offset" in err
    code, out, _ = run(capsys, "show", file, "--path", "PID-5.2")
    assert out == "Zo‹E9›\n"
    code, out, _ = run(capsys, "show", file, "--json")
    assert json.loads(out)[0]["undecodable_bytes"] == 3
    file.write_bytes(MESSAGE.replace(b"8859/15", b"EBCDIC"))
    code, out, err = run(capsys, "show", file)
    assert (code, "Zo‹E9›" in out) == (Code.FINDINGS, True)
    assert "unsupported character set" in err


def test_show_what_is_no_message(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_bytes(b"PID|1\xe9\r")
    code, out, err = run(capsys, "show", file)
    assert (code, out) == (Code.FINDINGS, "PID|1‹E9›‹0D›\n")
    assert "the first segment is not MSH" in err
    file.write_bytes(b"")
    assert run(capsys, "show", file, "--json")[:2] == (0, "[]\n")


def test_show_files_of_every_shape(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    text = MESSAGE.decode("iso8859-15")
    for data in (
        b"\x0b" + MESSAGE + b"\x1c\r\x0b" + MESSAGE + b"\x1c\r",
        b"FHS|^~\\&|x\rBHS|^~\\&|y\r" + MESSAGE * 2 + b"BTS|2\rFTS|1\r",
        MESSAGE.replace(b"\r", b"\n") * 2,
        MESSAGE.replace(b"\r", b"\r\n") * 2,
        (text * 2).encode("utf-16"),
        (text * 2).encode("utf-16-be"),
    ):
        file.write_bytes(data)
        code, out, _ = run(capsys, "show", file, "--path", "PID-5.2")
        assert (code, out) == (0, "Zoé\nZoé\n"), data[:20]


def test_long_values_are_cut_unless_asked_for(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    file.write_bytes(MESSAGE.replace(b"|\xe0 jeun", b"|" + b"QUJD" * 500))
    assert "… (2000 characters)" in run(capsys, "show", file)[1]
    assert "QUJD" * 500 in run(capsys, "show", file, "--full")[1]


def test_check_finds_and_says_who_asks(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_bytes(MESSAGE)
    assert run(capsys, "check", file)[:2] == (Code.DONE, "")
    file.write_bytes(MESSAGE + MESSAGE.replace(b"|F\r", b"|Q\r").replace(b"|19850314|", b"|1985x|"))
    code, out, err = run(capsys, "check", file)
    assert code == Code.FINDINGS
    lines = [line.split("\t") for line in out.splitlines()]
    assert [(line[0].rpartition("#")[2], *line[1:4]) for line in lines] == [
        ("2", "PID-7.1", "102", "error"), ("2", "OBX-11", "103", "error"),
    ]  # fmt: skip
    assert lines[1][4:] == ["no code of table 0085", "HL7 2.5", "Q"]
    assert "2 messages in 1 file: 2 errors" in err
    code, out, _ = run(capsys, "check", file, "--json")
    document = json.loads(out)
    assert (document["ok"], document["messages"], document["counts"]) == (False, 2, {"error": 2})
    assert document["findings"][0]["location"] == "PID-7.1"


def test_check_with_profiles(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    profile = file.with_name("site.yaml")
    profile.write_text("profile: site\nmessages:\n  ORU:\n    PV1: {required: yes}\n")
    code, out, _ = run(capsys, "check", file, "--profile", profile)
    assert (code, out) == (
        Code.FINDINGS, f"{file}#1\tPV1\t100\terror\tPV1 is required\t{profile}:4:5\n",
    )  # fmt: skip
    assert run(capsys, "check", file, "--no-grammar", "--profile", profile)[0] == Code.FINDINGS
    profile.write_text("profile: site\nmessages:\n  ORU:\n    PV1: {require: yes}\n")
    code, out, err = run(capsys, "check", file, "--profile", profile)
    assert (code, out) == (Code.USAGE, "")
    assert f"{profile}:4:11: " in err


def test_check_tells_what_cannot_be_read(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_bytes(MESSAGE.replace(b"8859/15", b"UNICODE UTF-8"))
    code, out, _ = run(capsys, "check", file)
    assert code == Code.FINDINGS
    assert "\t102\terror\tthe byte at offset" in out
    file.write_bytes(b"garbage")
    assert "\tMSH\t100\terror\t" in run(capsys, "check", file)[1]


def test_usage(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert run(capsys, "check")[0] == Code.USAGE
    assert run(capsys, "check", file, "--charset", "EBCDIC")[0] == Code.USAGE
    assert run(capsys, "show", file, "--charset", "EBCDIC")[0] == Code.USAGE
    assert run(capsys, "show", "/no/such/file")[0] == Code.USAGE
    code, out, _ = run(capsys, "check", "--schema")
    schema = json.loads(out)
    assert code == 0
    assert {"profile", "messages", "tables"} <= set(schema["properties"])
