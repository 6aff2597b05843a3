"""The configuration file: its schema, its conflicts with their places, and checking it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.cli.output import Code
from gateway.configuration import differences
from gateway.settings import json_schema, load_settings
from gateway.settings_file import ConfigurationError
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "ecluse.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as found:
        load_settings(path, environment={})
    return [each.removeprefix(f"{path}:") for each in found.value.problems]


TLS = "{certificate: c.pem, client_ca: ca.pem}"


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("listen: '127.0.0.1:2575'", "sources that share a port have the same tls"),
        ("listen: '127.0.0.1:8080'", "is the address of http.listen"),
        (f"listen: '127.0.0.1:2576', tls: {TLS}", "told apart by certificates"),
        (f"listen: '127.0.0.1:2576', tls: {TLS}, clients: ['cn:lab']", "the client cn:lab"),
        ("listen: '127.0.0.1:2576', tls: {certificate: d.pem}", "have the same tls"),
    ],
)
def test_sources_that_want_the_same_address(tmp_path: Path, second: str, said: str) -> None:
    (found,) = problems(
        tmp_path,
        f"""\
sources:
  - {{name: plain, type: mllp, listen: '127.0.0.1:2575'}}
  - {{name: lab, type: mllp, listen: '127.0.0.1:2576', tls: {TLS}, clients: ['cn:lab']}}
  - {{name: two, type: mllp, {second}}}
""",
    )
    place, _, text = found.partition(": ")
    assert place == "4:37"
    assert text.startswith("sources.2.listen: ")
    assert said in text


def test_sources_may_share_a_port_by_certificates(tmp_path: Path) -> None:
    path = tmp_path / "ecluse.yaml"
    path.write_text(
        f"""\
sources:
  - {{name: lab, type: mllp, listen: '[::]:2576', tls: {TLS}, clients: ['cn:lab']}}
  - {{name: ward, type: mllp, listen: '[::]:2576', tls: {TLS}, clients: ['cn:ward']}}
""",
        encoding="utf-8",
    )
    assert len(load_settings(path, environment={}).sources) == 2


def test_two_folders_and_a_folder_of_another_kind(tmp_path: Path) -> None:
    (found,) = problems(
        tmp_path,
        """\
sources:
  - {name: one, type: cda-folder, path: drop}
  - name: two
    type: cda-folder
    path: drop
""",
    )
    assert found.startswith("5:11: sources.1.path: source one has the same")


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("clients: ['cn:lab']", "3:5", "set tls.client_ca"),
        ("clients: ['lab']", "5:14", "does not begin with fingerprint:, subject:"),
        (f"tls: {TLS}\n    clients: ['fingerprint:12']", "6:14", "64 hex digits"),
        (f"tls: {TLS}\n    clients: ['subject:lab']", "6:14", "is not like CN=name,O=name"),
        ("tls: {client_ca: ca.pem}", "5:10", "Field required"),
        ("tls: {certificate: c.pem, minimum_version: '1.0'}", "5:48", "'1.2' or '1.3'"),
    ],
)
def test_tls_that_makes_no_sense(tmp_path: Path, line: str, place: str, said: str) -> None:
    (found,) = problems(
        tmp_path, f"sources:\n  # of ours\n  - name: lab\n    type: mllp\n    {line}\n"
    )
    assert found.startswith(f"{place}: ")
    assert said in found


# --- the schema -----------------------------------------------------------------------


def definitions(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for each in node.values():
            yield from definitions(each)
    elif isinstance(node, list):
        for each in node:
            yield from definitions(each)


def test_the_schema_is_for_editors() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    for definition in definitions(schema):
        assert definition.get("description") or definition is schema, definition.get("title")
        for name, each in definition["properties"].items():
            assert each.get("description") or name in {"type", "name"} or "$ref" in each, name
    assert "type" in schema["$defs"]["MllpSourceSettings"]["required"]
    assert schema["$defs"]["MllpSourceSettings"]["additionalProperties"] is False


# --- checking -------------------------------------------------------------------------


def check(capsys: pytest.CaptureFixture[str], path: Path, code: int = 0) -> dict[str, list[str]]:
    assert main(["config", "check", str(path), "--json"]) == code
    found: dict[str, list[str]] = json.loads(capsys.readouterr().out)
    assert main(["config", "check", str(path)]) == code
    assert "Traceback" not in capsys.readouterr().err
    return found


def with_tls(tmp_path: Path, authority: Authority, **files: Path) -> Path:
    path = tmp_path / "ecluse.yaml"
    given = "".join(f"      {name}: {at}\n" for name, at in files.items())
    path.write_text(f"sources:\n  - name: lab\n    type: mllp\n    tls:\n{given}", encoding="utf-8")
    return path


def test_a_sound_configuration_passes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, authority: Authority
) -> None:
    own = authority.issue("own")
    path = with_tls(tmp_path, authority, certificate=own.certificate, key=own.key)
    assert check(capsys, path) == {"problems": [], "warnings": []}
    assert not (tmp_path / "ecluse-state").exists()


def test_files_that_cannot_be_used_have_their_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, authority: Authority
) -> None:
    own, other = authority.issue("own"), authority.issue("other")
    path = with_tls(tmp_path, authority, certificate=own.certificate, key=other.key)
    (found,) = check(capsys, path, Code.USAGE)["problems"]
    assert found.startswith(f"{path}:6:12: sources.0.tls.key: {other.key}: is not the key")


def test_a_file_with_a_fault_has_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "ecluse.yaml"
    path.write_text("http:\n  listen: [\n", encoding="utf-8")
    (found,) = check(capsys, path, Code.USAGE)["problems"]
    assert found.startswith(f"{path}:3:1: ")
    assert check(capsys, tmp_path / "none.yaml", Code.USAGE)["problems"]


@pytest.mark.parametrize(
    ("days", "code", "said"),
    [(20, 0, "days from now"), (-1, Code.FINDINGS, "it has expired"), (60, 0, "")],
)
def test_expiry_is_told_by_the_check_and_by_the_doctor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, authority: Authority,
    days: int, code: int, said: str,
) -> None:  # fmt: skip
    own = authority.issue("own", begins=timedelta(days=-90), ends=timedelta(days=days))
    path = with_tls(tmp_path, authority, certificate=own.certificate, key=own.key)
    warnings = check(capsys, path, code)["warnings"]
    assert bool(warnings) is bool(said)
    assert all(said in each for each in warnings)
    found = main(["doctor", "--json", "--config", str(path), "--state-folder", str(tmp_path)])
    checks = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    level = {20: "warning", -1: "error", 60: "ok"}[days]
    assert checks["certificate lab"]["level"] == level
    assert "own" in checks["certificate lab"]["found"]
    assert found in {Code.DONE, Code.FINDINGS}
    assert (found == Code.FINDINGS) >= (level == "error")


def test_differences_are_named_to_the_leaf(tmp_path: Path) -> None:
    def read(text: str) -> Any:
        path = tmp_path / "ecluse.yaml"
        path.write_text(text, encoding="utf-8")
        return load_settings(path, environment={})

    one = read("journal: {url: 'sqlite:///a'}\n")
    other = read("retry: {attempts_max: 3}\nlog: {level: debug}\n")
    assert sorted(differences(one, other)) == ["journal.url", "log.level", "retry.attempts_max"]
    assert differences(one, one) == []
