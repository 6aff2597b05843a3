"""C-STORE: our receive loop beside DCMTK's storescp and Orthanc, in turns, the same sender; and
our STOW-RS with the same objects, one request for each association.

    python -m benchmarks.dicom_store [--scale 1.0] [--rounds 5] [--only CASE]

The sender is DCMTK's storescu. Each turn starts every receiver afresh on an empty folder of its
own. Ours is the door with the journal behind it (SQLite, WAL, synchronous=FULL): success is
answered after the bytes and the journal's row are on the disk; storescp and Orthanc make no such
promise. All run with ``TCP_NODELAY=1``, but for the case ``nagle``: there the sender has DCMTK's
default, and so has one storescp more (``storescp as it comes``). ``disk alone`` is what the disk
lets through: a loop that writes the same bytes, flushes them, names them durably and commits a
row, one object after the other, and receives nothing.
Prints per case and receiver the medians of objects and megabytes a second, of CPU
seconds and of the most memory in use, and the ratios of our rate to the others', as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import free_port

SMALL_SIDE, CT_SIDE = 64, 512
STOW = "ecluse stow"
RECEIVERS = ("ecluse", STOW, "storescp", "storescp +B", "storescp --fork", "orthanc")
AS_IT_COMES = "storescp as it comes"
DISK = "disk alone"


@dataclass(frozen=True)
class Case:
    """What is sent: folders, each on an association of its own, at the same time."""

    name: str
    folders: tuple[Path, ...]
    objects: int
    nagle: bool = False
    one_each: bool = False


# --- objects -------------------------------------------------------------------------


def write_objects(folder: Path, count: int, side: int, *, frames: int = 1) -> Path:
    """Objects with the header of a real CT and random pixels."""
    import pydicom
    import pydicom.data
    from pydicom.uid import generate_uid

    folder.mkdir(parents=True)
    data = pydicom.dcmread(str(pydicom.data.get_testdata_file("CT_small.dcm")))
    data.Rows = data.Columns = side
    if frames > 1:
        data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.2"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.NumberOfFrames = frames
    data.StudyInstanceUID = generate_uid()
    for number in range(count):
        data.SOPInstanceUID = generate_uid()
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.PixelData = os.urandom(2 * side * side) * frames
        data.save_as(folder / f"{number:05}.dcm")
    return folder


def cases(folder: Path, scale: float) -> dict[str, Callable[[], Case]]:
    """The cases by name; the objects of one are written when it is made."""

    def some(count: int) -> int:
        return max(4, round(count * scale))

    def slices(name: str, *, nagle: bool = False) -> Case:
        return Case(name, (write_objects(folder / name, some(500), CT_SIDE),), some(500), nagle)

    def four() -> Case:
        each = some(500) // 4 + 1
        parts = (write_objects(folder / f"part{number}", each, CT_SIDE) for number in range(4))
        return Case("four associations", tuple(parts), 4 * each)

    def large(name: str, *, at_once: bool) -> Case:
        counts = [1] * 4 if at_once else [4]
        folders = tuple(
            write_objects(folder / f"{name} {number}", count, CT_SIDE, frames=200)
            for number, count in enumerate(counts)
        )
        return Case(name, folders, 4)

    def small(name: str, count: int, *, one_each: bool = False) -> Case:
        objects = write_objects(folder / name, count, SMALL_SIDE)
        return Case(name, (objects,), count, one_each=one_each)

    return {
        "ct": lambda: slices("ct"),
        "nagle": lambda: slices("nagle", nagle=True),
        "four associations": four,
        "small": lambda: small("small", some(1000)),
        "one per association": lambda: small("one per association", some(40), one_each=True),
        "100 MB": lambda: large("100 MB", at_once=False),
        "100 MB, four at once": lambda: large("100 MB, four at once", at_once=True),
    }


# --- receivers -----------------------------------------------------------------------


@contextlib.contextmanager
def receiver(kind: str, folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A receiver in a process of its own; its port (that of HTTP for STOW-RS) and the process."""
    port, http = free_port(), free_port()
    folder.mkdir()
    environment = dict(os.environ, TCP_NODELAY="1")
    if kind in {"ecluse", STOW}:
        command = [sys.executable, "-m", __spec__.name if __spec__ else "benchmarks.dicom_store"]
        command += ["--serve", str(port), str(folder), str(http)]
    elif kind == "orthanc":
        settings = {
            "DicomPort": port, "HttpPort": free_port(), "DicomAet": "ANY", "StorageDirectory":
            str(folder), "IndexDirectory": str(folder), "DicomCheckCalledAet": False,
            "RemoteAccessAllowed": False, "Plugins": [],
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))
        command = [shutil.which("Orthanc") or "Orthanc", str(folder / "orthanc.json")]
    elif kind == AS_IT_COMES:
        del environment["TCP_NODELAY"]
        command = ["storescp", "-od", str(folder), str(port)]
    else:
        command = ["storescp", "-od", str(folder), *kind.split()[1:]]
        command += ["+B"] if "--fork" in kind else []
        command.append(str(port))
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(
            ["echoscu", "-to", "2", "127.0.0.1", str(port)],
            check=False, capture_output=True, env=environment,
        ).returncode:  # fmt: skip
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{kind} does not answer")
            time.sleep(0.05)
        yield http if kind == STOW else port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def used(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """CPU seconds of a process with the children that ended, and its peak memory in MB."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    ticks = sum(int(each) for each in fields[11:15])
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return ticks / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) / 1024


def turn(case: Case, kind: str, folder: Path) -> dict[str, float]:
    """Send a case to one receiver."""
    environment = dict(os.environ)
    environment.pop("TCP_NODELAY", None)
    if not case.nagle:
        environment["TCP_NODELAY"] = "1"
    size = sum(path.stat().st_size for each in case.folders for path in each.iterdir())
    with receiver(kind, folder) as (port, process):
        begun, _ = used(process)
        start = time.perf_counter()
        target = ["127.0.0.1", str(port)]
        if kind == STOW:
            sender = [sys.executable, str(Path(__file__).with_name("stow_sender.py")), str(port)]
            sender += ["--one-each"] if case.one_each else []
            subprocess.run([*sender, *map(str, case.folders)], check=True)
        elif case.one_each:
            sent = [["storescu", *target, str(p)] for p in sorted(case.folders[0].iterdir())]
            for command in sent:
                subprocess.run(command, check=True, capture_output=True, env=environment)
        else:
            senders = [
                subprocess.Popen(
                    ["storescu", "-R", *target, "+sd", str(each)],
                    env=environment, stderr=subprocess.DEVNULL,
                )
                for each in case.folders
            ]  # fmt: skip
            if any(sender.wait() for sender in senders):
                raise SystemExit(f"{case.name}: {kind} refused something")
        seconds = time.perf_counter() - start
        cpu, memory = used(process)
    shutil.rmtree(folder)
    return {
        "objects_per_second": case.objects / seconds,
        "megabytes_per_second": size / seconds / 1e6,
        "cpu_seconds": cpu - begun,
        "memory_mb": memory,
    }


def disk_alone(case: Case, folder: Path) -> dict[str, float]:
    """The same bytes to the same disk with the same promise, by nothing but system calls."""
    folder.mkdir()
    table = sqlite3.connect(folder / "rows.db", isolation_level=None)
    table.executescript("pragma journal_mode=wal; pragma synchronous=full; create table o(name)")
    descriptor = os.open(folder, os.O_RDONLY)
    data = [path.read_bytes() for path in sorted(case.folders[0].iterdir())[:200]]
    start = time.perf_counter()
    for number, content in enumerate(data):
        with (folder / "new").open("wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
        (folder / "new").rename(folder / str(number))
        os.fsync(descriptor)
        table.execute("insert into o values (?)", (str(number),))
    seconds = time.perf_counter() - start
    os.close(descriptor)
    table.close()
    shutil.rmtree(folder)
    return {
        "objects_per_second": len(data) / seconds,
        "megabytes_per_second": sum(map(len, data)) / seconds / 1e6,
    }


def measure(rounds: int, scale: float, only: str = "") -> dict[str, Any]:
    """Medians of every case and receiver, in turns."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        for each_name, make in cases(Path(name), scale).items():
            if only and each_name != only:
                continue
            case = make()
            receivers = (*RECEIVERS, AS_IT_COMES) if case.nagle else RECEIVERS
            turns: dict[str, list[dict[str, float]]] = {kind: [] for kind in (*receivers, DISK)}
            for _ in range(rounds):
                turns[DISK].append(disk_alone(case, Path(name) / "written"))
                for kind in receivers:
                    if kind == "orthanc" and shutil.which("Orthanc") is None:
                        continue
                    turns[kind].append(turn(case, kind, Path(name) / "received"))
            medians = {
                kind: {
                    what: round(statistics.median(each[what] for each in done), 3)
                    for what in done[0]
                }
                for kind, done in turns.items()
                if done
            }
            ours = medians["ecluse"]["objects_per_second"]
            figures[case.name] = medians | {
                "ratio": {
                    kind: round(ours / each["objects_per_second"], 2)
                    for kind, each in medians.items()
                    if kind != "ecluse"
                }
            }
            for folder in case.folders:
                shutil.rmtree(folder)
            print(f"{case.name}: {json.dumps(figures[case.name])}", file=sys.stderr)
    return figures


def serve(port: int, folder: Path, http: int) -> None:
    """Our doors with the journal behind them, until SIGTERM."""
    import uvicorn
    from fastapi import FastAPI
    from uvloop import new_event_loop

    from adapters.dicom.listener import DicomSource
    from adapters.dicom.settings import DicomSourceSettings
    from adapters.dicom.web.routes import dicomweb_routes
    from adapters.dicom.web.service import Service
    from adapters.dicom.web.settings import DicomwebSettings, DicomwebSourceSettings
    from adapters.dicom.web.source import DicomwebSource
    from gateway.gate import PermissionGate
    from gateway.holdings import JournalHoldings
    from gateway.intake import JournalIntake
    from gateway.journal.journal import Journal
    from gateway.journal.writer import GroupWriter
    from gateway.opening import RECORD_VERSION_TABLE
    from gateway.sources import SystemClock

    async def until_stopped() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        settings = DicomSourceSettings(name="bench", listen=f"127.0.0.1:{port}")
        source = DicomSource(settings, intake, SystemClock(), folder / "spool")
        named = DicomwebSourceSettings(name="web")
        web = DicomwebSource(named, intake, SystemClock(), folder / "spool")
        app = FastAPI()
        app.include_router(
            dicomweb_routes(Service(JournalHoldings(journal), lambda: [web], DicomwebSettings))
        )
        configuration = uvicorn.Config(app, port=http, log_config=None, lifespan="off")
        server = uvicorn.Server(configuration)
        await web.start()
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        await source.start()
        await stopped.wait()
        server.should_exit = True
        await serving
        await source.stop()
        await web.stop()

    journal = Journal(f"sqlite:///{folder / 'journal.db'}", blob_directory=folder / "blobs")
    journal.migrate()
    journal.migrate(package="record", version_table=RECORD_VERSION_TABLE)
    gate = PermissionGate()
    writer = GroupWriter(journal, judge=gate.judge)
    writer.start()
    intake = JournalIntake(writer, gate)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(until_stopped())
    finally:
        writer.stop()
        journal.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--serve", nargs=3, metavar=("PORT", "FOLDER", "HTTP"))
    given = parser.parse_args()
    if given.serve:
        serve(int(given.serve[0]), Path(given.serve[1]), int(given.serve[2]))
    else:
        print(json.dumps(measure(given.rounds, given.scale, given.only), indent=2))
