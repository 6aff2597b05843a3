"""docs/guide-mapping.md: every file is written, every command run, every answer looked for."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.application import main
from gateway.deployment.loading import checked_mappings
from gateway.formats import languages, readers
from gateway.mapping import Library, packaged_mappings
from gateway.model import Format, Payload

_BLOCK = re.compile(r"^```(?P<kind>\w+)(?: (?P<info>[^\n]*))?\n(?P<body>.*?)^```$", re.M | re.S)


def _blocks(repository: Path) -> Iterator[tuple[str, str, str]]:
    text = (repository / "docs" / "guide-mapping.md").read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        yield match["kind"], match["info"] or "", match["body"]


def _answers(expected: str, lines: list[str]) -> bool:
    """Whether a line of the guide, ``…`` standing for anything, is among those printed."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return any(re.fullmatch(pattern, line) for line in lines)


@pytest.mark.timeout(180)
def test_every_step_of_the_guide_does_what_it_says(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _only_what_is_used(tmp_path / "shipped", monkeypatch)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    commands = 0
    for kind, info, body in _blocks(repository):
        if kind != "console":
            _write(Path(), info, body)
            continue
        printed: list[str] = []
        for line in body.splitlines():
            if line.startswith("$ ecluse "):
                code = main(shlex.split(line.removeprefix("$ ecluse ")))
                out = capsys.readouterr()
                printed = [*out.err.splitlines(), *out.out.splitlines()]
                assert code == int(info or 0), f"{line}\n" + "\n".join(printed)
                commands += 1
            else:
                assert _answers(line, printed), f"{line}\nis not in\n" + "\n".join(printed)
    assert commands >= 8
    # Beside all that is shipped, the guide's mapping is the one that is taken.
    library = Library.load(
        [packaged_mappings(), Path("mappings")], languages(), checked=checked_mappings()
    )
    root = readers()[Format.HL7V2].read([Payload.from_bytes(_message())])
    program = library.match(root, Format.HL7V2)
    assert program is not None
    assert program.name == "labo.results"


def _message() -> bytes:
    return Path("result.hl7").read_bytes().replace(b"\n", b"\r")


def _only_what_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped files that the guide uses, so that each command need not load all others."""
    for name in ("hl7/datatypes.yaml", "cda/datatypes.yaml", "terminology"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        source = packaged_mappings() / name
        if source.is_dir():
            shutil.copytree(source, path)
        else:
            shutil.copy(source, path)
    monkeypatch.setattr("gateway.deployment.files.packaged_mappings", lambda: folder)


def _write(folder: Path, info: str, body: str) -> None:
    """A block with a name is a file; ``append`` adds to the one that is there."""
    name, _, mode = info.partition(" ")
    if not name:
        return
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if mode == "append" else ""
    path.write_text(before + body, encoding="utf-8")
