"""The mapping side of a gateway, made of its settings: what loads, checks, deploys and maps.

Apart from the rest, because a process that only maps needs no protocol and no database.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from gateway.deployment.apart import Apart
from gateway.deployment.deploying import Build, Deployer
from gateway.deployment.files import FileSet, MappingFolders
from gateway.deployment.force import InForce, Mappings
from gateway.deployment.loading import checked_mappings, load_folders
from gateway.deployment.starting import SETS_FOLDER, first
from gateway.formats import readers
from gateway.ins import ROOTS, TEST_ROOTS
from gateway.instruments import TimedNormaliser, observe_mapping
from gateway.journal.journal import Journal
from gateway.mapping import Library, MappingContext
from gateway.mapping_processes import CPU_SECONDS_MAX, MappingProcesses
from gateway.mapping_wire import Opening, content_digest
from gateway.normalise import Normaliser
from gateway.release import version
from gateway.settings import Settings


def load_library(settings: Settings, folders: MappingFolders | None = None) -> Library:
    """Load the shipped mappings, the site's folders and its overrides; or those in ``folders``.

    A mapping of which nothing had to be said before is not checked again. Raises
    ``gateway.mapping.MappingError`` with every finding.
    """
    return load_folders(folders or MappingFolders.of(settings.mappings), checked_mappings())


def make_normaliser(
    settings: Settings,
    library: Library,
    contexts: Mapping[str, MappingContext] | None = None,
) -> Normaliser:
    """Stage 2 as these settings want it, for the gateway and for tools beside it.

    ``contexts`` is what mappings are told of each source; without it what the settings say.
    """
    roots = ROOTS if settings.identity.accept_test_roots else ROOTS - TEST_ROOTS
    return Normaliser(
        readers=readers(),
        library=library,
        contexts=_contexts(settings) if contexts is None else contexts,
        accepted_ins=roots,
    )


def make_mapping_processes(
    settings: Settings, library: Library, folders: MappingFolders | None = None
) -> MappingProcesses | None:
    """The processes that map for the workers; none is started yet. None where there are none."""
    if settings.worker.mapping_processes == 0 or sys.platform == "win32":
        return None
    return MappingProcesses(
        Opening(settings=settings, cpu_seconds=CPU_SECONDS_MAX, folders=folders),
        content_digest(library.programs, version()),
        count=settings.worker.mapping_processes,
        observe=observe_mapping,
    )


def _contexts(settings: Settings) -> Mapping[str, MappingContext]:
    # Here, because it knows the sources of every protocol.
    from gateway.sources import mapping_context

    return {each.name: mapping_context(each) for each in settings.sources}


def make_deployer(
    settings: Settings,
    journal: Journal,
    mappings: Mappings | None = None,
    contexts: Mapping[str, MappingContext] | None = None,
) -> Deployer:
    """What deploys mappings into a journal: for the gateway that runs with ``mappings``, and
    for the command line when none runs."""

    def load(folders: MappingFolders) -> Library:
        return load_library(settings, folders)

    return Deployer(
        journal,
        settings.state / SETS_FOLDER,
        load=load,
        check=Apart().check,
        build=_builder(settings, contexts),
        versions_kept=settings.mappings.versions_kept,
        mappings=mappings,
    )


def make_mappings(
    settings: Settings, journal: Journal, contexts: Mapping[str, MappingContext]
) -> tuple[Mappings, Deployer]:
    """The mappings in force at the start, and what deploys others.

    Raises MappingError, CannotDeploy, NotASet.
    """
    mappings = Mappings(
        first(
            journal,
            settings.state / SETS_FOLDER,
            MappingFolders.of(settings.mappings),
            load=lambda folders: load_library(settings, folders),
            build=_builder(settings, contexts),
        )
    )
    return mappings, make_deployer(settings, journal, mappings, contexts)


def _builder(settings: Settings, contexts: Mapping[str, MappingContext] | None) -> Build:
    def build(number: int, files: FileSet, folders: MappingFolders, library: Library) -> InForce:
        return InForce(
            version=number,
            files=files,
            folders=folders,
            library=library,
            normaliser=TimedNormaliser.around(make_normaliser(settings, library, contexts)),
            processes=make_mapping_processes(settings, library, folders),
            loaded=content_digest(library.programs, version()),
        )

    return build
