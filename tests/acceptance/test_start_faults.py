"""``ecluse run`` that cannot: it says what is wrong, in one line, and with which code."""

from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.opening import open_journal
from gateway.settings import load_settings
from tests.certificates import Authority
from tests.servers import free_port

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True)
class Case:
    """A configuration that cannot be used, the code of ``ecluse run``, and what it says."""

    tree: dict[str, Any] | str
    code: int
    said: str


def cases(folder: Path, taken: int) -> dict[str, Case]:
    mappings = folder / "mappings"
    mappings.mkdir()
    (mappings / "broken.yaml").write_text("mapping: broken\nnonsense: true\n", encoding="utf-8")
    authority = Authority(folder / "authority")
    one, other = authority.issue("one"), authority.issue("other")
    tls = {"certificate": str(one.certificate), "key": str(other.key)}
    nowhere = f"postgresql+psycopg://ecluse@127.0.0.1:{free_port()}/ecluse?connect_timeout=3"
    lab = {"name": "lab", "type": "mllp"}
    return {
        "a setting": Case("http:\n  lisen: x\n", 2, "ecluse.yaml:2:10: http.lisen:"),
        "a kind of journal": Case({"journal": {"url": "mysql://h/d"}}, 2, ": journal.url:"),
        "a mapping": Case({"mappings": {"folders": [str(mappings)]}}, 2, "broken.yaml:"),
        "a journal in use": Case({"state": str(folder / "held")}, 4, "stop it first"),
        "a journal that is away": Case(
            {"journal": {"url": nowhere}}, 4, "the journal cannot be reached"),
        "a token": Case(
            {"http": {"listen": "127.0.0.1:0", "token_file": str(folder / "none")}},
            2, "none: cannot be read"),
        "a key": Case(
            {"sources": [{**lab, "listen": "127.0.0.1:0", "tls": tls}]},
            2, "other.key: is not the key of"),
        "a port": Case(
            {"sources": [{**lab, "listen": f"127.0.0.1:{taken}"}]},
            1, f"cannot start: cannot listen on 127.0.0.1:{taken}: Address already in use"),
    }  # fmt: skip


def run(folder: Path, case: Case) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    path = folder / "ecluse.yaml"
    tree: dict[str, Any] = {
        "state": str(folder / "state"), "http": {"listen": f"127.0.0.1:{free_port()}"},
        "sources": [{"name": "lab", "type": "mllp", "listen": f"127.0.0.1:{free_port()}"}],
    }  # fmt: skip
    text = case.tree if isinstance(case.tree, str) else yaml.safe_dump(tree | case.tree)
    path.write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "run", "--config", str(path)],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


def test_every_fault_is_told_without_a_traceback(tmp_path: Path) -> None:
    holder = open_journal(load_settings(environment={"ECLUSE_STATE": str(tmp_path / "held")}),
                          read_only=False)  # fmt: skip
    try:
        with socket.create_server(("127.0.0.1", 0)) as other, ThreadPoolExecutor(3) as pool:
            given = cases(tmp_path, other.getsockname()[1])
            folders = [tmp_path / name.replace(" ", "-") for name in given]
            outcomes = dict(zip(given, pool.map(run, folders, given.values()), strict=True))
    finally:
        holder.close()
    for name, case in given.items():
        done = outcomes[name]
        assert done.returncode == case.code, (name, done.stderr)
        assert case.said in done.stderr, name
        assert "Traceback" not in done.stderr, name
        assert done.stdout == "", name
