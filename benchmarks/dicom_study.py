"""How long after its evidence of completion a whole study is in the patient's record.

    python -m benchmarks.dicom_study [--instances 1300] [--rounds 5]

A gateway of its own (SQLite). Each round sends a study of a CT:
an N-CREATE of its performed procedure step, its instances of 15 kB over one association of DCMTK's
storescu, in series of 100; then N-SET COMPLETED lists them all (PS3.4 F.7.2.2). The clock runs from
the answer to N-SET until the record has the ImagingStudy with every instance. The source would wait
ten minutes for quiet, so that nothing but the evidence ends the study. Beside it, in the same run:
the time that the record takes for one that has a tenth of the instances. Prints JSON; exit 1 when
the median is over five seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS_MAX = 5.0
SERIES = 100
SIDE = 80


@dataclass(frozen=True)
class Study:
    """A study on the disk: its UID and its instances by series."""

    uid: str
    folder: Path
    series: dict[str, list[str]]

    @property
    def instances(self) -> int:
        """How many there are."""
        return sum(map(len, self.series.values()))


def write_study(folder: Path, count: int) -> Study:
    """Instances with random pixels of one synthetic patient."""
    from gateway.demo.people import CAMILLE
    from gateway.demo.study import ct_study

    (template,) = ct_study(CAMILLE, slices=1)
    template.Rows = template.Columns = SIDE
    folder.mkdir(parents=True)
    uid, series = f"2.999.{random.randrange(10**15)}", dict[str, list[str]]()
    for number in range(count):
        of = f"{uid}.{number // SERIES + 1}"
        instance = f"{of}.{number % SERIES + 1}"
        template.StudyInstanceUID, template.SeriesInstanceUID = uid, of
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = instance
        template.SeriesNumber = str(number // SERIES + 1)
        template.InstanceNumber = str(number % SERIES + 1)
        template.PixelData = os.urandom(2 * SIDE * SIDE)
        template.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)
        series.setdefault(of, []).append(instance)
    return Study(uid, folder, series)


def step(status: str, study: Study, *, listed: bool) -> Any:
    """A performed procedure step as a modality sends it."""
    from pydicom.dataset import Dataset
    from pynetdicom.sop_class import CTImageStorage

    made, scheduled = Dataset(), Dataset()
    made.PerformedProcedureStepStatus = status
    if not listed:
        scheduled.StudyInstanceUID, scheduled.AccessionNumber = study.uid, "A1"
        made.ScheduledStepAttributesSequence = [scheduled]
        return made
    made.PerformedSeriesSequence = []
    for uid, instances in study.series.items():
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedImageSequence = uid, []
        for instance in instances:
            image = Dataset()
            image.ReferencedSOPClassUID = CTImageStorage
            image.ReferencedSOPInstanceUID = instance
            series.ReferencedImageSequence.append(image)
        made.PerformedSeriesSequence.append(series)
    return made


def tell(port: int, study: Study, *, completed: bool) -> None:
    """N-CREATE or N-SET of the study's step."""
    from pynetdicom import AE
    from pynetdicom.sop_class import ModalityPerformedProcedureStep

    ae = AE(ae_title="CT1")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", port, ae_title="ECLUSE")
    uid = f"{study.uid}.9"
    if completed:
        body = step("COMPLETED", study, listed=True)
        answer, _ = association.send_n_set(body, ModalityPerformedProcedureStep, uid)
    else:
        body = step("IN PROGRESS", study, listed=False)
        answer, _ = association.send_n_create(body, ModalityPerformedProcedureStep, uid)
    association.release()
    if answer.Status != 0:
        raise SystemExit(f"the gateway answered 0x{answer.Status:04X} to the procedure step")


def in_the_record(gateway: Any, study: Study) -> bool:
    """Whether the record has the study with all of its instances."""
    from tests.http_client import HTTP

    found = HTTP.get(
        f"{gateway.url}/fhir/ImagingStudy",
        params={"identifier": f"urn:dicom:uid|urn:oid:{study.uid}"},
        timeout=30,
    ).json()
    return any(
        each["resource"]["numberOfInstances"] == study.instances for each in found.get("entry", [])
    )


def turn(gateway: Any, study: Study) -> dict[str, float]:
    """Send a study; the seconds that its instances took, and those from evidence to record."""
    from tests.eventually import eventually

    tell(gateway.dicom_port, study, completed=False)
    start = time.perf_counter()
    subprocess.run(
        ["storescu", "-R", "127.0.0.1", str(gateway.dicom_port), "+sd", str(study.folder)],
        check=True, capture_output=True, env=dict(os.environ, TCP_NODELAY="1"),
    )  # fmt: skip
    sent = time.perf_counter() - start
    tell(gateway.dicom_port, study, completed=True)
    start = time.perf_counter()
    eventually(lambda: in_the_record(gateway, study), timeout=300, every=0.05)
    return {"sending": sent, "from evidence to record": time.perf_counter() - start}


def measure(rounds: int, instances: int) -> dict[str, Any]:
    """Medians of both sizes, in turns."""
    from tests.acceptance.gateway_process import GatewayProcess

    def sizes() -> Iterator[int]:
        yield from (instances, max(1, instances // 10))

    seconds: dict[int, list[dict[str, float]]] = {size: [] for size in sizes()}
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        gateway = GatewayProcess(Path(name) / "gateway")
        listen = f"127.0.0.1:{gateway.dicom_port}"
        source = {"name": "ct", "type": "dicom", "listen": listen, "quiet_seconds": 600}
        gateway.extra = {"sources": [source]}
        gateway.start()
        try:
            for number in range(rounds):
                for size in sizes():
                    study = write_study(Path(name) / f"{number} {size}", size)
                    seconds[size].append(turn(gateway, study))
        finally:
            gateway.stop()
    return {
        str(size): {what: round(statistics.median(t[what] for t in each), 2) for what in each[0]}
        for size, each in seconds.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, default=1300)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    figures = measure(given.rounds, given.instances)
    print(json.dumps(figures, indent=2))
    late = figures[str(given.instances)]["from evidence to record"] > SECONDS_MAX
    sys.exit(1 if late else 0)
