"""An endpoint of XDS with an intake and a registry that tests look into."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.cda.transmitted import CdaHeaders
from adapters.xds.http import XdsSource
from adapters.xds.settings import XdsSourceSettings
from gateway.documents import RegistryUnavailable, SharedDocument
from gateway.model import Identifier, Payload, Received, RegistryKind, RegistryObject
from gateway.source_making import xds_reception
from tests.integration.doors.running import served
from tests.integration.hl7.fake_intake import FakeIntake, RealClock
from tests.integration.xds.submissions import REPOSITORY, Answer, patient_of
from tests.unit.hl7.transmissions import cda

PATIENT = patient_of(cda())
LIMITS = {
    "memory_bytes_max": 4096, "document_bytes_max": 1 << 20, "envelope_bytes_max": 256 << 10,
    "submission_bytes_max": 3 << 20, "parts_max": 20, "idle_timeout_seconds": 3,
}  # fmt: skip


@dataclass
class Registry:
    """Knows one patient, and documents by their ids."""

    digests: dict[str, frozenset[str]] = field(default_factory=dict)
    away: bool = False
    noted: list[list[RegistryObject]] = field(default_factory=list)

    def at_one_time(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def knows(self, patient: Identifier) -> bool:
        if self.away:
            raise RegistryUnavailable
        return patient.value == PATIENT.partition("^")[0]

    def known(self, source: str, control_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return {each: self.digests[each] for each in control_ids if each in self.digests}

    def by_identifier(self, identifiers: Sequence[Identifier]) -> Sequence[SharedDocument]:
        return ()

    def by_id(self, ids: Sequence[str]) -> Sequence[SharedDocument]:
        return ()

    def content(self, sha256: str) -> Payload | None:
        return None

    def submission(self, unique_id: str) -> str | None:
        return None

    def note_submission(
        self, unique_id: str, *, source: str, digest: str, objects: Sequence[RegistryObject]
    ) -> str:
        self.noted.append(list(objects))
        return digest

    def object_ids(self, kind: RegistryKind, unique_ids: Sequence[str]) -> Mapping[str, str]:
        return {}

    def objects(self, ids: Sequence[str]) -> Sequence[RegistryObject]:
        return ()

    def replaced(self, ids: Sequence[str], types: Sequence[str]) -> Sequence[tuple[str, str]]:
        return ()


@dataclass
class Served:
    """A running endpoint, and what it has kept."""

    url: str
    intake: FakeIntake
    registry: Registry
    spool: Path

    def kept(self, call: Callable[[], Answer]) -> tuple[Answer, list[Received]]:
        before = len(self.intake.kept)
        answer = call()
        return answer, self.intake.kept[before:]


@contextlib.contextmanager
def endpoint(spool: Path, **settings: object) -> Iterator[Served]:
    intake, registry = FakeIntake(), Registry()
    made = XdsSourceSettings(
        name="shared", repository_unique_id=REPOSITORY, spool_folder=spool,
        **LIMITS | settings,  # type: ignore[arg-type]
    )  # fmt: skip

    def make() -> list[XdsSource]:
        return [
            XdsSource(
                made, RealClock(), registry, CdaHeaders(),
                make_reception=lambda each: xds_reception(each, intake), schemes={},
            )
        ]  # fmt: skip

    with served("xds", make) as (url, _):
        yield Served(url, intake, registry, spool)
    intake.close()


def left_in_spool(xds: Served) -> list[Path]:
    return [each for each in xds.spool.rglob("*") if each.is_file()]
