"""The command line: usage, codes, secrets, the reference."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
import yaml

from gateway.cli import main, reference
from gateway.cli.application import app
from gateway.cli.configuration import mask
from gateway.cli.delivery import Peer
from gateway.cli.mllp_delivery import read_acknowledgement
from gateway.cli.options import row_number
from gateway.cli.output import Code
from gateway.journal.journal import Journal


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


def test_help_and_version_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name in ("run", "demo", "send", "message", "dead", "record", "mapping", "status",
                 "doctor", "config"):  # fmt: skip
        assert name in out
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("ecluse ")


def test_help_loads_nothing_heavy() -> None:
    """So that it answers at once: no web server, no DICOM, no database."""
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys\nfrom gateway.cli import main\nmain(['--help'])\n"
         "print([m for m in ('fastapi','pydicom','sqlalchemy','lxml','pydantic','httpx2',"
         "'structlog','prometheus_client') if m in sys.modules], file=sys.stderr)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = done.stderr.strip()
    assert loaded == "[]", loaded


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("message", "show"),
        ("message", "show", "seven"),
        ("message", "list", "--state", "lost"),
        ("message", "list", "--limit", "0"),
        ("dead", "replay"),
        ("dead", "replay", "1", "--all"),
        ("dead", "discard", "1"),
        ("send", "/no/such/file", "--to", "mllp://127.0.0.1:1"),
        ("run", "--config", "/no/such/file.yaml"),
    ],
)
def test_wrong_usage_is_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == Code.USAGE
    assert out == ""
    assert err


def test_a_wrong_configuration_is_2_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "ecluse.yaml"
    path.write_text("http:\n  lisen: 127.0.0.1:1\n", encoding="utf-8")
    code, _, err = run(capsys, "config", "--config", str(path))
    assert code == Code.USAGE
    assert f"{path}:2:" in err


def test_a_journal_that_is_not_there_is_4(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "status", "--state-folder", str(tmp_path / "none"))
    assert code == Code.UNREACHABLE
    assert out == ""
    assert "journal" in err
    assert not (tmp_path / "none").exists(), "reading makes nothing"


def test_the_configuration_is_printed_with_secrets_masked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ecluse.yaml"
    path.write_text(
        "journal: {url: 'postgresql+psycopg://ecluse:s3cret@db/ecluse?password=s3cret'}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("ECLUSE_BROKER__URL", "redis://:s3cret@broker:6379/0")
    code, out, _ = run(capsys, "config", "--config", str(path))
    assert code == 0
    assert "s3cret" not in out
    tree = yaml.safe_load(out)
    assert tree["journal"]["url"] == "postgresql+psycopg://ecluse:***@db/ecluse?password=***"
    assert tree["broker"]["url"] == "redis://:***@broker:6379/0"
    code, out, _ = run(capsys, "config", "--json", "--config", str(path))
    assert json.loads(out) == tree


def test_a_token_file_is_named_and_a_token_is_not() -> None:
    tree = mask({"token_file": "/etc/token", "token": "abc", "nested": [{"password": "x"}]})
    assert tree == {"token_file": "/etc/token", "token": "***", "nested": [{"password": "***"}]}


def test_a_password_in_a_url_is_not_shown() -> None:
    given = "postgresql://e:p@h/db?sslpassword=x&sslmode=require&password=y&flag"
    assert mask({"url": given}) == {
        "url": "postgresql://e:***@h/db?sslpassword=***&sslmode=require&password=***&flag"
    }
    assert mask("https://h/hook?access_token=x") == "https://h/hook?access_token=***"


def test_an_export_that_breaks_off_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.json").write_text(
        json.dumps({"pid": os.getpid(), "http": "127.0.0.1:9", "sources": {}}), encoding="utf-8"
    )
    wanted = tmp_path / "ticket.zip"
    given = ("dead", "export", "1", "-o", str(wanted), "--state-folder", str(tmp_path))
    code, _, err = run(capsys, *given)
    assert (code, wanted.exists()) == (Code.UNREACHABLE, False), err
    code, _, err = run(capsys, *given[:4], str(tmp_path / "no" / "t.zip"), *given[5:])
    assert code == Code.FAILED
    assert "No such file" in err


def test_the_schema_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "config", "--schema")
    assert code == 0
    assert "HttpSettings" in json.loads(out)["$defs"]


def test_the_reference_names_every_command_and_option() -> None:
    text = reference()
    for heading in ("ecluse run", "ecluse send", "ecluse message show", "ecluse dead replay",
                    "ecluse mapping check", "ecluse record list", "ecluse doctor"):  # fmt: skip
        assert f"\n## {heading}\n" in text
    for option in ("--dry-run", "--with", "--json", "--config", "--trace", "--reason"):
        assert f"`{option}`" in text


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("mllp://lab.example:2575", ("mllp", "lab.example", 2575, "", "")),
        ("dicom://My_Aet@pacs:11112", ("dicom", "pacs", 11112, "My_Aet", "")),
        ("dicom://pacs", ("dicom", "pacs", 104, "ECLUSE", "")),
        ("http://h:80/", ("http", "h", 80, "", "http://h:80")),
        ("https://h/intake/cda/cabinet", ("https", "h", 443, "", "https://h/intake/cda/cabinet")),
    ],
)
def test_a_destination_is_read(to: str, expected: tuple[str, str, int, str, str]) -> None:
    peer = Peer.parse(to, calling="SCU", token_file=None, timeout_seconds=1)
    assert (peer.scheme, peer.host, peer.port, peer.called) == expected[:4]
    assert not expected[4] or peer.url == expected[4]


@pytest.mark.parametrize(
    "to", ["", "lab:2575", "ftp://h:1", "mllp://h", "mllp://:1", "mllp://h:99999", "mllp://h:x",
           "dicom://SEVENTEENLETTERS_@h:1", "dicom://A\\B@h:1"],
)  # fmt: skip
def test_a_destination_that_is_none_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Peer.parse(to, calling="SCU", token_file=None, timeout_seconds=1)


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        (("MSA|AA|1",), ("AA", "")),
        (("MSA|AE|1|the old place",), ("AE", "the old place")),
        (("MSA|AR|1", "ERR||MSH^1^9|200^Unsupported message type^HL70357|E||||not taken here"),
         ("AR", "not taken here")),
        (("MSA|AE|1", "ERR||PID^1^3|101^Required field missing^HL70357|E"),
         ("AE", "101^Required field missing^HL70357")),
    ],
)  # fmt: skip
def test_an_acknowledgement_is_read(segments: tuple[str, ...], expected: tuple[str, str]) -> None:
    answer = "\r".join(("MSH|^~\\&|A|B|C|D|20240101||ACK|9|P|2.5", *segments, ""))
    assert read_acknowledgement(answer.encode()) == expected


def _integers(tree: typer.Typer) -> Iterator[tuple[str, Any]]:
    """What is said of each parameter that takes an integer, of all commands."""
    for group in tree.registered_groups:
        assert group.typer_instance is not None
        yield from _integers(group.typer_instance)
    for command in tree.registered_commands:
        assert command.callback is not None
        for name, kind in get_type_hints(command.callback, include_extras=True).items():
            said = getattr(kind, "__metadata__", ())
            if said and re.search(r"\bint\b", str(get_args(kind)[0])):
                yield f"{command.callback.__name__} {name}", said[0]


def test_no_command_takes_a_number_that_no_row_can_have() -> None:
    """What takes one has ``row_number`` or limits of its own."""
    found = dict(_integers(app))
    assert found["show_message number"].parser is row_number
    open_ended = {n for n, s in found.items() if s.parser is None and s.max is None}
    # Shares and seeds that name no row.
    assert open_ended == {"replay stop_percent"}


@pytest.mark.parametrize(
    "words",
    [
        "message show N", "message list --before N", "message bury N --reason x", "dead show N",
        "dead list --before N", "dead replay N", "dead discard 1 N --reason x",
        "dead export N -o FOLDER/x.zip", "dead assign anna --letter N", "dead jobs show N",
        "dead jobs pause N", "mapping rollback N", "mapping export N FOLDER",
        "mapping reprocess --message N --reason x", "mapping reprocessing show N",
    ],
)  # fmt: skip
def test_a_number_of_more_than_64_bits_is_a_usage_error(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (str(2**63), "9" * 5_000):
        given = [
            number if each == "N" else each.replace("FOLDER", str(tmp_path))
            for each in words.split()
        ]
        code, out, err = run(capsys, *given)
        assert (code, out) == (Code.USAGE, "")
        assert "numbers go up to" in " ".join(err.split())


def test_the_highest_number_is_merely_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}", blob_directory=tmp_path / "blobs")
    journal.migrate()
    journal.close()
    asked = ("message", "show", str(2**63 - 1), "--state-folder", str(tmp_path))
    code, _, err = run(capsys, *asked)
    assert code == Code.FAILED
    assert "there is no message" in err
