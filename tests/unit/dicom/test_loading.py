"""pydicom and pynetdicom are whole, whichever threads need them first."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = {
    "pydicom": {"load_pydicom", "load_pynetdicom"}, "pynetdicom": {"load_pynetdicom"},
    "dicomanonymizer": {"load_pydicom", "load_pynetdicom"},
}  # fmt: skip
APART = frozenset({"adapters/dicom/imaging/engine.py", "adapters/dicom/loading.py"})
"""A process of its own with one thread; and what loads them."""

# Each thread is the first to need something else, as they are when a gateway that has just been
# started is asked for a study, tells a commitment and sends on, all at once.
AT_ONCE = """
import sys, threading
from adapters.dicom import finder, identical, outgoing, sender
from adapters.dicom.settings import DicomPeerSettings

sys.setswitchinterval(1e-5)
nobody = DicomPeerSettings(ae_title="NOBODY", connect="127.0.0.1:1")
faults = []

def associated():
    try:
        with outgoing.associate(nobody, "ECLUSE", ["1.2.840.10008.1.1"], provides=False):
            pass
    except ConnectionError:
        pass

def sent():
    try:
        sender.echo("127.0.0.1", 1)
    except ConnectionError:
        pass

def manifested():
    from adapters.dicom import manifest_writing

def read():
    import adapters.dicom.notation

deeds = [associated, sent, manifested, read, lambda: finder.identifier("STUDY", {}),
         lambda: identical._reference("1.2", {})]
together = threading.Barrier(len(deeds))

def done(deed):
    together.wait()
    try:
        deed()
    except BaseException as error:
        faults.append(repr(error))

threads = [threading.Thread(target=done, args=(deed,)) for deed in deeds]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(*faults, sep="\\n")
"""


def test_threads_that_need_it_first_at_the_same_time(repository: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", AT_ONCE], cwd=repository, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "", told.stdout


def imported(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """The packages of a statement, each with whether only the package itself is named."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0], "." not in alias.name
    elif isinstance(node, ast.ImportFrom) and not node.level:
        module = node.module or ""
        yield module.partition(".")[0], "." not in module


def unsafe(scope: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    """The lines on which a thread may begin inside a package."""
    begun: set[str] = set()
    for node in _statements(scope):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            begun |= {name for name, calls in LIBRARIES.items() if node.func.id in calls}
        for package, alone in imported(node):
            if package in LIBRARIES and package not in begun:
                # The others alone are not enough: they begin inside pydicom.
                if not alone or (package != "pydicom" and "pydicom" not in begun):
                    yield node.lineno  # type: ignore[attr-defined]
                begun.add(package)


def _statements(scope: ast.AST) -> Iterator[ast.AST]:
    """What is in a scope, in order, without the functions in it and what only types need."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements(child)


def test_every_thread_begins_with_the_package(repository: Path) -> None:
    found = []
    for folder in ("adapters", "gateway", "record", "deadletter"):
        for path in sorted((repository / folder).rglob("*.py")):
            name = path.relative_to(repository).as_posix()
            text = path.read_text(encoding="utf-8")
            if name in APART or not any(library in text for library in LIBRARIES):
                continue
            tree = ast.parse(text)
            functions = (
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            )
            for scope in (tree, *functions):
                found += [f"{name}:{line}" for line in unsafe(scope)]
    assert not found, f"begin with the package (adapters/dicom/loading.py): {found}"
