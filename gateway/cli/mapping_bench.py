"""What the commands of the workbench share: their bench, its contexts, its options."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli.access import log_to_standard_error
from gateway.cli.options import settings
from gateway.cli.output import Code, fail, say

if TYPE_CHECKING:
    from gateway.mapping import Finding, Library, MappingContext
    from gateway.model import Format
    from gateway.settings import Settings
    from gateway.workbench.examining import Bench, Examined

MessageArgument = Annotated[
    Path,
    typer.Argument(
        help="A message, or a folder with the DICOM files of one study.",
        metavar="FILE",
        exists=True,
    ),
]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Messages, and folders of them; DICOM files of one study go together.",
        metavar="FILE...",
        exists=True,
    ),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="hl7v2, cda, dicom or hprim; found by itself when not given.",
        metavar="FORMAT",
    ),
]
SourceOption = Annotated[
    str,
    typer.Option("--source", help="With this source's zone and authorities.", metavar="NAME"),
]
FoldersOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--mappings",
        help="One more folder of mappings; may be given several times.",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
    ),
]

VERSIONS_MAX = 1_000
"""Versions among which one is looked up."""


def effective_settings(
    config: Path | None, state: Path | None, folders: Sequence[Path] = ()
) -> Settings:
    """The effective settings with more folders of mappings; logs go to standard error."""
    found = settings(config, state)
    log_to_standard_error(found)
    more = found.mappings.model_copy(update={"folders": [*found.mappings.folders, *folders]})
    return found.model_copy(update={"mappings": more})


def make_bench(effective: Settings) -> Bench:
    """The bench of these settings. Ends the command with the findings of wrong mappings."""
    from gateway.formats import inventories, readers
    from gateway.workbench.examining import Bench

    return Bench(readers=readers(), library=load(effective), inventories=inventories())


def load(effective: Settings) -> Library:
    """The mappings of these settings. Ends the command with the findings of wrong ones."""
    from gateway.deployment.files import MappingFolders
    from gateway.deployment.loading import checked_mappings, load_folders
    from gateway.mapping import MappingError

    try:
        return load_folders(MappingFolders.of(effective.mappings), checked_mappings())
    except MappingError as error:
        for finding in error.findings:
            say(str(finding))
        raise typer.Exit(Code.FINDINGS) from None


def chosen_format(given: str) -> Format | None:
    """The format that was given; None when it is to be found. Ends the command on another."""
    from gateway.model import Format

    if given and given not in set(Format):
        fail(Code.USAGE, f"{given}: not a format; there are {', '.join(Format)}")
    return Format(given) if given else None


def contexts(effective: Settings, source: str) -> Mapping[Format, MappingContext]:
    """What the named source says of zone and authorities, else the first of each format."""
    from gateway.mapping import MappingContext
    from gateway.model import Format
    from gateway.sources import mapping_context

    if source:
        for each in effective.sources:
            if each.name == source:
                return dict.fromkeys(Format, mapping_context(each))
        fail(Code.USAGE, f"no source is named {source}")
    from gateway.formats import SOURCE_TYPES

    found: dict[Format, MappingContext] = {}
    for form in Format:
        fitting = [each for each in effective.sources if each.type in SOURCE_TYPES[form]]
        found[form] = mapping_context(fitting[0]) if fitting else MappingContext(source="file")
    return found


def examined_messages(
    files: Sequence[Path], effective: Settings, *, form: str, source: str
) -> Iterator[Examined]:
    """The messages of the files, examined. Ends the command where one gives no entries."""
    from gateway.mapping import MappingContext
    from gateway.model import Cause
    from gateway.workbench.examining import examine
    from gateway.workbench.files import NoMessage, messages_of_files

    chosen, bench = chosen_format(form), make_bench(effective)
    known = contexts(effective, source)
    for message in messages_of_files(files, chosen):
        if isinstance(message, NoMessage):
            fail(Code.FINDINGS, f"{message.name}: {message.reason}")
        context = known.get(message.format, MappingContext(source="file"))
        examined = examine(bench, message.format, message.payloads, context)
        if isinstance(examined, Cause):
            where = f"{examined.location} " if examined.location else ""
            fail(Code.FINDINGS, f"{message.name}: {where}{examined.code.value}: {examined.detail}")
        yield examined


def was_deployed(effective: Settings) -> bool:
    """Whether a version was ever deployed; until then the folders of the settings count."""
    from gateway.cli.access import reading
    from gateway.journal import mappings as kept
    from gateway.journal.faults import NoJournal

    try:
        with reading(effective) as journal, journal.read() as connection:
            return kept.latest(connection) is not None
    except NoJournal:
        return False


def load_version(named: str, effective: Settings) -> Library:
    """The mappings of a deployed version: its number, the beginning of its digest, or
    ``in-force``. Ends the command where there is none, or its files are not kept."""
    from gateway.cli.access import reading
    from gateway.deployment.files import FileSet
    from gateway.deployment.loading import checked_mappings, load_folders
    from gateway.journal import mappings as kept
    from gateway.mapping import MappingError

    with reading(effective) as journal, journal.read() as connection:
        last = kept.latest(connection)
        if last is None:
            fail(Code.FAILED, "nothing was deployed yet: name a folder of mappings")
        known = kept.versions(connection, limit=VERSIONS_MAX)
        fitting = [
            each.number
            for each in known
            if named in (str(each.number), "in-force" if each.number == last.version else "")
            or (not named.isdecimal() and each.digest.startswith(named))
        ]
        if len(set(fitting)) != 1:
            fail(Code.FAILED, f"{len(set(fitting)) or 'no'} versions are called {named}; "
                 "ecluse mapping versions lists them")  # fmt: skip
        packed = kept.content(connection, fitting[0])
    if packed is None:
        fail(Code.FAILED, f"the files of version {fitting[0]} are not kept")
    files = FileSet.unpack(packed)
    with tempfile.TemporaryDirectory(prefix="ecluse-mappings-") as parent:
        folders = files.folders_below(files.extract(Path(parent)))
        try:
            return load_folders(folders, checked_mappings())
        except MappingError as error:
            _say_findings(error.findings)


def load_folder(folder: Path, effective: Settings) -> Library:
    """One folder of mappings: by itself when it is whole, else on those that are shipped; a
    folder of one site's changes on the folders of the settings.

    Ends the command with the findings when it is wrong either way.
    """
    from gateway.deployment.files import MappingFolders
    from gateway.deployment.loading import checked_mappings, load_folders
    from gateway.mapping import MappingError, packaged_mappings

    sites, site, checked = effective.mappings.sites, effective.mappings.site, checked_mappings()
    if _is_of_a_site(folder):
        here = folder.absolute()
        configured = MappingFolders.of(effective.mappings).folders
        try:
            return load_folders(MappingFolders(configured, here.parent, here.name), checked)
        except MappingError as error:
            _say_findings(error.findings)
    try:
        return load_folders(MappingFolders((folder,), sites, site), checked)
    except MappingError as alone:
        if not any(finding.code in _LEANING for finding in alone.findings):
            _say_findings(alone.findings)
    try:
        return load_folders(MappingFolders((packaged_mappings(), folder), sites, site), checked)
    except MappingError as error:
        _say_findings(error.findings)


def _is_of_a_site(folder: Path) -> bool:
    """Whether a folder holds the changes of a site: a file of it begins with ``extends:``."""
    for path in sorted(folder.glob("*.yaml")):
        with path.open("rb") as stream:
            if _EXTENDS.search(stream.read(_HEAD_BYTES)) is not None:
                return True
    return False


_EXTENDS = re.compile(rb"^extends:", re.MULTILINE)
_HEAD_BYTES = 65_536

_LEANING = frozenset(
    {"unknown-mapping", "unknown-table", "unknown-block", "unknown-type", "unknown-site"}
)
"""What a folder is told that uses the shipped mappings and does not hold them."""


def _say_findings(findings: Sequence[Finding]) -> NoReturn:
    for finding in findings:
        say(str(finding))
    raise typer.Exit(Code.FINDINGS)
