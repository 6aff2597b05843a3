"""What the shipped mappings make: entries of R4 resources, message by message.

From the messages of the corpora beside the project where they are there, from the
files that pydicom carries, and always from the tests beside the mappings.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom.data

from adapters.dicom.dataset import Instance
from adapters.dicom.study import READING_FAULTS
from gateway import formats
from gateway.mapping import Library, MappingContext, Program, packaged_mappings, run_twins
from gateway.model import Format, Mapped, Payload
from gateway.normalise import Normaliser, Original
from gateway.ports import Scope

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
Resources = list[dict[str, Any]]

_START = re.compile(rb"(?:(?<=[\r\n\x0b])|^)(?=MSH[^A-Za-z0-9])")
_MEMBER_BYTES_MAX = 64 * 1024 * 1024


def entries(*, corpora: bool = True) -> Iterator[tuple[str, Resources]]:
    """The entries of each message with the message's name, always in the same order.

    ``corpora`` says whether the corpora are read, which takes some ten seconds, or the
    mappings' own tests alone.
    """
    library = Library.load([packaged_mappings()], formats.languages())
    yield from _of_twins(library)
    if not corpora:
        return
    context = MappingContext(
        zone="Europe/Paris", source="corpus", authorities={"": "1.2.250.1.999.1"}
    )
    normaliser = Normaliser(
        readers=formats.readers(), library=library, contexts={"corpus": context}
    )
    for name, original in (*_hl7(), *_cda(), *_dicom()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mapped = normaliser.explain(original)
        if isinstance(mapped, Mapped) and mapped.entries:
            yield name, [entry.resource for entry in mapped.entries]


@dataclass(frozen=True, slots=True)
class _Noting:
    """A program that notes what it made."""

    program: Program
    made: list[Mapped]

    def run(self, root: Scope, context: MappingContext, *, trace: bool = False) -> Mapped:
        mapped = self.program.run(root, context, trace=trace)
        self.made.append(mapped)
        return mapped


class _NotingLibrary:
    """A library whose programs note what they made."""

    def __init__(self, library: Library) -> None:
        self.programs, self.twins = library.programs, library.twins
        self.made: list[Mapped] = []
        self._library = library

    def match(self, root: Scope, kind: Format) -> _Noting | None:
        program = self._library.match(root, kind)
        return None if program is None else _Noting(program, self.made)


def _of_twins(library: Library) -> Iterator[tuple[str, Resources]]:
    noting: Any = _NotingLibrary(library)
    run_twins(noting, formats.readers(), encoders=formats.encoders())
    # Each test runs its mapping twice, to compare the two.
    for position, mapped in enumerate(noting.made[::2]):
        yield f"twin[{position}]", [entry.resource for entry in mapped.entries]


def _original(kind: Format, payloads: list[Payload]) -> Original:
    return Original(source="corpus", format=kind, payloads=payloads)


def _files(folder: str) -> Iterator[Path]:
    return (path for path in sorted((SHARED / "corpora" / folder).rglob("*")) if path.is_file())


def _hl7() -> Iterator[tuple[str, Original]]:
    for path in _files("hl7v2"):
        parts = [part for part in _START.split(path.read_bytes()) if part.startswith(b"MSH")]
        for position, part in enumerate(parts):
            name = f"{path.name}[{position}]"
            yield name, _original(Format.HL7V2, [Payload.from_bytes(part)])


def _cda() -> Iterator[tuple[str, Original]]:
    for path in _files("cda"):
        if path.suffix == ".xml":
            yield path.name, _original(Format.CDA, [Payload.from_file(path)])


def _dicom() -> Iterator[tuple[str, Original]]:
    studies: dict[str, list[Payload]] = defaultdict(list)
    for payload in _objects():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                studies[Instance(payload).study].append(payload)
        except READING_FAULTS:
            continue
    for position, (_, payloads) in enumerate(sorted(studies.items())):
        yield f"study[{position}]", _original(Format.DICOM, payloads)


def _objects() -> Iterator[Payload]:
    carried = Path(pydicom.data.__file__).parent
    paths = [path for path in sorted(carried.rglob("*")) if path.is_file()]
    for path in (*_files("dicom"), *paths):
        if path.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                for member in sorted(archive.infolist(), key=lambda each: each.filename):
                    if member.file_size <= _MEMBER_BYTES_MAX and not member.is_dir():
                        yield Payload.from_bytes(archive.read(member))
        else:
            yield Payload.from_file(path)
