"""The wheel, and where it is asked for its hot modules compiled to machine code.

``ECLUSE_COMPILE=1`` when the wheel is built compiles the modules that the configuration
names (``[tool.hatch.build.targets.wheel.hooks.custom]``) with mypyc and puts them beside
their sources. It needs a C compiler and Python's headers; what is compiled does the same
as what is not, in less time. Without it the wheel is pure Python.

A wheel also gets the notes that its mappings were checked and their tests passed, so that a
fresh machine need not do it (``gateway/mapping/checked.py``). What checks them must be there when
the wheel is built: ``--no-isolation`` in an environment that has the project's dependencies.
Where they are missing, the wheel has no notes, and whoever builds it is told; with
``ECLUSE_CHECK=1`` the build fails instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SETUP = """\
from mypyc.build import mypycify
from setuptools import setup

setup(
    name="ecluse",
    packages=[],
    py_modules=[],
    ext_modules=mypycify({modules!r}, opt_level="2", debug_level="0"),
)
"""

# The project's own check is stricter and has run before: here only types are wanted.
_MYPY = """\
[mypy]
[mypy-hl7apy.*,hl7.*,pydicom.*,pynetdicom.*]
ignore_missing_imports = True
follow_imports = skip
"""


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled modules to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Check and compile before the wheel is packed. Raises RuntimeError with the words of
        whoever refuses."""
        if self.target_name != "wheel":
            return
        if version != "editable":
            self._note_what_is_right(build_data)
        if os.environ.get("ECLUSE_COMPILE") == "1":
            self._compile(build_data)

    def _note_what_is_right(self, build_data: dict[str, Any]) -> None:
        """Check the mappings that ship, and put the notes of it into the wheel."""
        notes = Path(tempfile.mkdtemp(prefix="ecluse-checked-")) / "checked.digests"
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "gateway.deployment.stamping", str(notes)],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": self.root, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            build_data["force_include"][str(notes)] = "gateway/mapping/checked.digests"
            return
        said = done.stderr.strip()[-4000:]
        if "ModuleNotFoundError" not in said or os.environ.get("ECLUSE_CHECK") == "1":
            raise RuntimeError(f"the mappings that ship could not be checked:\n{said}")
        self.app.display_warning(
            f"the mappings that ship were not checked ({said.splitlines()[-1]}): the first start "
            "of every machine will do it. Build with --no-isolation in the project's environment."
        )

    def _compile(self, build_data: dict[str, Any]) -> None:
        root, folder = Path(self.root), Path(tempfile.mkdtemp(prefix="ecluse-compile-"))
        modules = sorted(
            {
                path.relative_to(root).as_posix()
                for pattern in self.config["compiled"]
                for path in root.glob(pattern)
                if path.name != "__init__.py"
            }
            - set(self.config.get("interpreted", []))
        )
        for package in self.config["packages"]:
            shutil.copytree(root / package, folder / package, ignore=_sources_only)
        folder.joinpath("setup.py").write_text(_SETUP.format(modules=modules))
        folder.joinpath("mypy.ini").write_text(_MYPY)
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-4000:]
            raise RuntimeError(
                f"the modules could not be compiled (is a C compiler with Python's headers "
                f"installed?):\n{said}"
            )
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for library in folder.rglob("*.so"):
            build_data["force_include"][str(library)] = library.relative_to(folder).as_posix()


def _sources_only(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or name.endswith((".so", ".pyd"))]
