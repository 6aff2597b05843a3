"""The house's own rules, held by a test. STYLE.md names them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("gateway", "adapters", "deadletter", "record")
DATA_PACKAGES = ("mappings",)
SHIPPED_SUFFIXES = frozenset(
    {".py", ".yaml", ".json", ".html", ".css", ".js", ".svg", ".xml", ".tsv", ".txt"}
)
BANNED_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "misc", "manager"})
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

# Modules that something outside Python's imports starts.
ENTRY_POINTS = frozenset(
    {
        "gateway.cli", "gateway.cli.__main__", "gateway.demo",
        "gateway.deployment.check_process", "gateway.deployment.stamping",
    }
)  # fmt: skip


def modules(repository: Path) -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((repository / package).rglob("*.py")):
            parts = list(path.relative_to(repository).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            yield ".".join(parts), path


def imported_names(path: Path, module: str) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def test_no_module_is_dead(repository: Path) -> None:
    known = dict(modules(repository))
    used = {name for module, path in known.items() for name in imported_names(path, module)}
    migrations = {name for name in known if ".migrations" in name}
    packages = {name for name, path in known.items() if path.name == "__init__.py"}
    dead = set(known) - used - ENTRY_POINTS - migrations - packages
    assert not dead, f"no module imports {sorted(dead)}"


def test_names_are_of_the_field(repository: Path) -> None:
    bad = [
        str(path.relative_to(repository))
        for _, path in modules(repository)
        if BANNED_NAMES & set(path.relative_to(repository).with_suffix("").parts)
    ]
    assert not bad, f"a name that says nothing: {bad}"


def test_every_package_says_what_it_is(repository: Path) -> None:
    silent = [
        module
        for module, path in modules(repository)
        if ".migrations.versions" not in module
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent, f"no docstring: {silent}"


def test_every_setting_is_documented(repository: Path) -> None:
    from gateway.settings import Settings

    page = (repository / "docs" / "settings.md").read_text(encoding="utf-8")
    missing, undescribed = [], []
    schema = Settings.model_json_schema()
    blocks = {"Settings": schema, **schema.get("$defs", {})}
    for block, definition in blocks.items():
        for name, field in definition.get("properties", {}).items():
            if f"`{name}`" not in page:
                missing.append(f"{block}.{name}")
            if name not in ("type", "name") and not field.get("description"):
                undescribed.append(f"{block}.{name}")
    assert not missing, f"docs/settings.md does not name {missing}; run `make docs`"
    assert not undescribed, f"settings without a description: {undescribed}"


@pytest.mark.timeout(300)
def test_the_wheel_holds_what_it_should(repository: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, repository],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/", 1)[0] for name in names}
    assert tops - {f"{wheel.name.split('-')[0]}-{wheel.name.split('-')[1]}.dist-info"} == {
        *PACKAGES,
        *DATA_PACKAGES,
    }
    for package in (*PACKAGES, *DATA_PACKAGES):
        for path in (repository / package).rglob("*"):
            if path.suffix in SHIPPED_SUFFIXES:
                assert str(path.relative_to(repository)) in names, f"{path} is not in the wheel"
    demand_that_nothing_is_checked_again(wheel, tmp_path)


def demand_that_nothing_is_checked_again(wheel: Path, tmp_path: Path) -> None:
    """What ships was checked when the wheel was built: a fresh machine need not do it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    asked = (
        "from gateway.deployment.files import MappingFolders\n"
        "from gateway.deployment.loading import checked_mappings, load_folders\n"
        "from gateway.mapping import packaged_mappings\n"
        "made = load_folders(MappingFolders((packaged_mappings(),)), checked_mappings())\n"
        "assert made.programs\n"
        "print([each.name for each in made.programs if each._rules is not None])\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", asked],
        env={"PYTHONPATH": str(tmp_path / "installed"), "XDG_CACHE_HOME": str(tmp_path / "fresh")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "[]"


def test_long_files_and_functions_are_listed(repository: Path) -> None:
    """Length is for a human eye: listed as a warning, not failed."""
    long = []
    for module, path in modules(repository):
        source = path.read_text(encoding="utf-8")
        lines = source.count("\n")
        if lines > FILE_LINES_MAX:
            long.append(f"{module}: {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    long.append(f"{module}.{node.name}: {length} lines")
    if long:
        warnings.warn("look at these: " + "; ".join(long), stacklevel=1)
    assert dict(modules(repository)), "the walk must find the packages"


def test_the_tests_that_the_table_of_features_names_exist(repository: Path) -> None:
    table = (repository / "docs/features.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)`", table)
    assert len(named) > 20
    [rows] = re.findall(r"^\| feature \|.*?\n\|[-|]+\n(.*?)\n\n", table, re.DOTALL | re.MULTILINE)
    unproved = [row for row in rows.split("\n") if not re.search(r"`tests/[\w/]+\.py` \|$", row)]
    assert [row.split("|")[1].strip() for row in unproved] == ["licence"]
    assert [name for name in named if not (repository / name).is_file()] == []
