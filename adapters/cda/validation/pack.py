"""A validation pack: a folder with schema, schematrons and value sets that a site keeps.

A folder laid out as the ANS publishes its rules (``schematrons/CI-SIS_*.sch``,
``schematrons/profils``, ``infrastructure/cda/CDA_extended.xsd``) needs nothing more.
Any other has a ``pack.yaml``::

    name: our rules
    schema: xsd/CDA.xsd                 # optional
    every: [header.sch]                 # for each document
    structured: [body.sch]              # for each document with sections
    documents:                          # by template, and its version where one is given
      - {template: 1.2.250.1.213.1.1.1.55, version: "2024.01", schematrons: [bio.sch]}
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from adapters.cda.validation.schematron import (
    Compiled,
    NotASchematron,
    Rule,
    compile_schematron,
)

FILES_MAX = 20_000
BYTES_MAX = 512 << 20
VALUE_SET_BYTES_MAX = 32 << 20
COMPILER = 1
"""Grows with what the compiler makes, so that what another one made is not taken."""
_SUFFIXES = frozenset({".sch", ".xsd", ".xml", ".yaml"})
_NAME = re.compile(r"[\w.-]+", re.ASCII)

_VOLETS = {
    "2.1.1": "CARD-F-PRC-AVK", "2.1.2": "CARD-F-PRC-TAP", "2.1.3": "CARD-F-PRC-DCI",
    "2.1.4": "CARD-F-PRC-PSC", "2.1.5": "CARD-F-PRC-PPV", "5.1": "CSE-CS8", "5.2": "CSE-CS9",
    "5.3": "CSE-CS24", "5.4": "CSE-MDE", "8": "CANCER-FRCP", "12.1": "OBP-SAP",
    "12.2": "OBP-SNM", "12.3": "OBP-SNE", "12.4": "OBP-SCM", "12.5": "OBP-SEM", "13": "VSM",
    "15": "AVC-AUNV", "16": "AVC-EUNV", "17": "AVC-SUNV", "18": "OPH-CR-RTN", "21": "LDL-EES",
    "22": "DLU-EHPAD-DLU", "23": "DLU-EHPAD-FLUDT", "24": "DLU-EHPAD-FLUDR", "25": "AVC-PAVC",
    "26": "CANCER-PPS", "27": "CANCER-D2LM-FIN", "28": "CANCER-D2LM-FIDD", "29": "LDL-SES",
    "30": "SDM-MR", "32": "CANCER-CR-GM", "36": "CNAM-HR", "37": "VAC", "38": "TLM-DA",
    "39": "EP-MED-DM", "40": "ANEST-CR-ANEST", "41": "ANEST-CR-CPA", "42": "OPH-BRE",
    "45": "IMG-CR-IMG", "46": "VAC-NOTE", "47": "IMG-DA-IMG", "51": "IPS-FR", "54": "eDISP-MED",
    "55": "BIO-CR-BIO", "59": "BIO-TROD",
}  # fmt: skip
"""Volets of the CI-SIS by the last arcs of their template, 1.2.250.1.213.1.1.1.…"""
_VOLET_ROOT = "1.2.250.1.213.1.1.1."
_VERSIONS = {("VSM", "201310"): "1.4_2022.01"}
_EVERY = "schematrons/profils/structurationMinimale/ASIP-STRUCT-MIN-StrucMin.sch"
_STRUCTURED = (
    "schematrons/profils/IHE.sch",
    "schematrons/profils/CI-SIS_ModelesDeContenusCDA.sch",
    "schematrons/profils/CI-SIS_Modeles_ANS.sch",
)
_SCHEMA = "infrastructure/cda/CDA_extended.xsd"


class PackUnusable(Exception):
    """The folder is no pack. The message says which folder, why, and what it should have."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A schematron made ready: ``value_sets`` are the documents that its rules look into."""

    name: str
    title: str
    stylesheet: str
    rules: tuple[Rule, ...]
    value_sets: dict[str, Path]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Named:
    template: str
    version: str
    schematrons: tuple[str, ...]


@dataclass(frozen=True)
class Pack:
    """An opened pack. ``digest`` is that of all it holds."""

    root: Path
    name: str
    digest: str
    schema: Path | None
    every: tuple[str, ...]
    structured: tuple[str, ...]
    documents: tuple[_Named, ...]

    @classmethod
    def open(cls, folder: Path) -> Pack:
        """Look through the folder. Raises PackUnusable."""
        if not folder.is_dir():
            raise PackUnusable(f"{folder}: there is no such folder")
        root = folder.resolve()
        digest = _digest(root)
        described = root / "pack.yaml"
        if described.is_file():
            return _described(root, described, digest)
        schematrons = root / "schematrons"
        if not any(schematrons.glob("*.sch")):
            raise PackUnusable(
                f"{folder}: there is neither a pack.yaml nor schematrons/CI-SIS_*.sch in it"
            )
        schema = root / _SCHEMA
        return cls(
            root=root, name=root.name, digest=digest, schema=schema if schema.is_file() else None,
            every=tuple(each for each in (_EVERY,) if (root / each).is_file()),
            structured=tuple(each for each in _STRUCTURED if (root / each).is_file()),
            documents=(),
        )  # fmt: skip

    def schematrons(
        self, templates: Sequence[tuple[str, str]], *, structured: bool
    ) -> tuple[list[str], list[str]]:
        """Those that judge a document of these templates (root, extension), and what to say.

        Paths within the pack, the general ones first.
        """
        own: list[str] = []
        said: list[str] = []
        for template, version in templates:
            found, notice = self._of(template, version)
            own += [each for each in found if each not in own]
            said += notice
        if structured and not own:
            said.append("Le jeu de règles n'a pas de schématron propre à ce type de document.")
        return [*self.every, *(self.structured if structured else ()), *own], said

    def _of(self, template: str, version: str) -> tuple[list[str], list[str]]:
        named = [each for each in self.documents if each.template == template]
        exact = [each for each in named if each.version in ("", version)]
        if exact:
            return [path for each in exact for path in each.schematrons], []
        volet = _VOLETS.get(template.removeprefix(_VOLET_ROOT))
        if not template.startswith(_VOLET_ROOT) or volet is None:
            return [], []
        wanted = f"CI-SIS_{volet}_{_VERSIONS.get((volet, version), version)}.sch"
        if (self.root / "schematrons" / wanted).is_file():
            return [f"schematrons/{wanted}"], []
        known = sorted(
            each.name for each in (self.root / "schematrons").glob(f"CI-SIS_{volet}_20*.sch")
        )
        if not known:
            return [], []
        given = f"la version « {version} »" if version else "aucune version"
        return [f"schematrons/{known[-1]}"], [
            f"Le document donne {given} du volet {volet} ; il est jugé selon {known[-1]}."
        ]

    def ready(self, path: str, cache: Path | None) -> Ready:
        """A schematron compiled, from ``cache`` when the pack is still the same.

        Raises NotASchematron.
        """
        kept = None
        if cache is not None:
            name = "-".join(_NAME.findall(path))
            kept = cache / f"{self.digest[:32]}-{COMPILER}" / f"{name}.json"
            found = _kept(kept, self.root)
            if found is not None:
                return found
        compiled = compile_schematron(self.root / path, self.root)
        made = Ready(
            Path(path).stem, compiled.title, compiled.stylesheet, tuple(compiled.rules),
            compiled.documents, tuple(dict.fromkeys(compiled.problems)),
        )  # fmt: skip
        if kept is not None:
            _keep(kept, made, self.root)
        return made

    def all_schematrons(self) -> list[str]:
        """Every schematron that some document would be judged by."""
        named = [path for each in self.documents for path in each.schematrons]
        volets = sorted(
            f"schematrons/{each.name}" for each in (self.root / "schematrons").glob("CI-SIS_*.sch")
        )
        return list(dict.fromkeys([*self.every, *self.structured, *named, *volets]))


def _described(root: Path, path: Path, digest: str) -> Pack:
    try:
        said: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PackUnusable(f"{path}: cannot be read ({type(error).__name__})") from None
    if not isinstance(said, dict):
        raise PackUnusable(f"{path}: name, schema, every, structured and documents are expected")
    unknown = sorted(set(said) - {"name", "schema", "every", "structured", "documents"})
    if unknown:
        raise PackUnusable(f"{path}: unknown: {', '.join(map(str, unknown))}")

    def inside(name: object) -> str:
        target = (root / str(name)).resolve()
        if not target.is_relative_to(root) or not target.is_file():
            raise PackUnusable(f"{path}: {name} is not a file of the pack")
        return target.relative_to(root).as_posix()

    try:
        documents = tuple(
            _Named(
                str(each["template"]), str(each.get("version", "")),
                tuple(inside(name) for name in each["schematrons"]),
            )
            for each in said.get("documents") or ()
        )  # fmt: skip
        return Pack(
            root=root, name=str(said.get("name") or root.name), digest=digest,
            schema=root / inside(said["schema"]) if said.get("schema") else None,
            every=tuple(inside(name) for name in said.get("every") or ()),
            structured=tuple(inside(name) for name in said.get("structured") or ()),
            documents=documents,
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError):
        raise PackUnusable(
            f"{path}: every, structured and schematrons are lists of files, and each of "
            "documents has template and schematrons"
        ) from None


def _files(root: Path) -> Iterator[Path]:
    count = size = 0
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            path = Path(folder) / name
            if path.suffix not in _SUFFIXES or path.is_symlink():
                continue
            count += 1
            size += path.stat().st_size
            if count > FILES_MAX or size > BYTES_MAX:
                raise PackUnusable(
                    f"{root}: more than {FILES_MAX} files or {BYTES_MAX} bytes; name a folder "
                    "that holds a pack only"
                )
            yield path


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _kept(path: Path, root: Path) -> Ready | None:
    """What was compiled before; None when it is not there or not what was written."""
    try:
        said = orjson.loads(path.read_bytes())
        return Ready(
            said["name"], said["title"], said["stylesheet"],
            tuple(Rule(name, level) for name, level in said["rules"]),
            {name: root / file for name, file in said["value_sets"].items()},
            tuple(said["problems"]),
        )  # fmt: skip
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _keep(path: Path, made: Ready, root: Path) -> None:
    """Write what was compiled. A cache that cannot be written costs time, nothing else."""
    said = {
        "name": made.name, "title": made.title, "stylesheet": made.stylesheet,
        "rules": [(rule.name, rule.level) for rule in made.rules],
        "value_sets": {
            name: file.relative_to(root).as_posix() for name, file in made.value_sets.items()
        },
        "problems": list(made.problems),
    }  # fmt: skip
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(orjson.dumps(said))
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)


__all__ = ["Compiled", "NotASchematron", "Pack", "PackUnusable", "Ready"]
