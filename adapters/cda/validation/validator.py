"""A document in, a report out: the pack's rules and our own, in bounded time and memory."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path

import orjson

from adapters.cda.document import DEFAULT_LIMITS, Limits
from adapters.cda.validation.findings import Finding, Level, Report, limited, report_of
from adapters.cda.validation.national import ORIGIN
from adapters.cda.validation.pack import Pack
from adapters.cda.validation.process import Ended, JudgingProcess, findings_of
from gateway.model import Payload

RULES_VERSION = 1
"""Grows when our own rules change, so that a report that is kept is made again."""
SECONDS_MAX = 30.0
REPORTS_MAX = 20_000
_LOG = logging.getLogger("ecluse.cda")


class Validator:
    """Judges documents by one pack, or by our own rules alone. Safe to share between threads.

    ``processes`` judge at the same time, each with some 200 MB; more callers wait.
    ``compiled`` is where compiled rules are kept, ``reports`` where reports are.
    """

    def __init__(
        self,
        pack: Pack | None,
        *,
        compiled: Path | None = None,
        reports: Path | None = None,
        seconds_max: float = SECONDS_MAX,
        processes: int = 1,
    ) -> None:
        self.pack = pack
        self.seconds_max = seconds_max
        self._compiled = compiled
        self._reports = reports
        self._idle: list[JudgingProcess] = []
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(processes)
        self._closed = False

    @property
    def digest(self) -> str:
        """That of the rules: the pack's content and the version of our own."""
        pack = self.pack.digest if self.pack is not None else ""
        return hashlib.sha256(f"{RULES_VERSION}:{pack}".encode()).hexdigest()

    def check(
        self, payload: Payload, *, encoding: str = "", limits: Limits = DEFAULT_LIMITS
    ) -> Report:
        """Judge one document. Raises nothing of the document's; OSError: it cannot be read.

        The same bytes under the same rules give the same report, which is kept.
        """
        known = self.kept(payload.sha256)
        if known is not None:
            return known
        with self._room:
            report, final = self._checked(payload, encoding, limits)
        if final:
            self._keep(payload.sha256, report)
        return report

    def kept(self, sha256: str) -> Report | None:
        """The report of bytes that were judged before by these rules, or None."""
        if self._reports is None:
            return None
        try:
            return report_of(orjson.loads(self._place(sha256).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """End the processes. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()

    def _checked(self, payload: Payload, encoding: str, limits: Limits) -> tuple[Report, bool]:
        """The report, and whether asking again would give the same."""
        for attempt in (1, 2):
            process = self._take()
            try:
                report = self._ask(process, payload, encoding, limits)
            except Ended as ended:
                _LOG.warning("a document's check ended early (late: %s)", ended.late)
                if ended.late or attempt == 2:
                    return self._unfinished(late=ended.late), False
                continue
            self._give_back(process)
            return report, True
        raise AssertionError

    def _ask(self, process: JudgingProcess, payload: Payload, encoding: str, limits: Limits
             ) -> Report:  # fmt: skip
        said = process.read(payload, encoding, limits, self.seconds_max)
        name = self.pack.name if self.pack is not None else ""
        if "unreadable" in said:
            return self._report([unreadable(said["unreadable"])], ["lecture"], [], name)
        findings = findings_of(said["findings"])
        origins = [ORIGIN]
        problems = list(process.problems)
        if self.pack is not None:
            if self.pack.schema is not None and not problems:
                origins.append("XSD")
            names, notices = self.pack.schematrons(
                [(root, extension) for root, extension in said["templates"]],
                structured=said["structured"],
            )
            judged = process.judge(names, self.seconds_max)
            findings += findings_of(judged["findings"])
            problems += [*notices, *judged["problems"]]
            origins += judged["titles"]
        return self._report(findings, origins, problems, name)

    def _report(self, findings: list[Finding], origins: list[str], problems: list[str], pack: str
                ) -> Report:  # fmt: skip
        kept, left_out = limited(findings)
        return Report(
            findings=kept, origins=tuple(origins), problems=tuple(dict.fromkeys(problems)),
            pack=pack, digest=self.digest, left_out=left_out,
        )  # fmt: skip

    def _unfinished(self, *, late: bool) -> Report:
        why = (
            f"Le contrôle n'a pas abouti en {self.seconds_max:.0f} secondes."
            if late
            else "Le contrôle s'est arrêté : il demandait trop de mémoire, ou les règles ont "
            "fait échouer le moteur."
        )
        finding = Finding(origin=ORIGIN, rule="CONTROLE-INACHEVE", level=Level.ERROR, text=why)
        return self._report(
            [finding], [ORIGIN], [], self.pack.name if self.pack is not None else ""
        )

    def _take(self) -> JudgingProcess:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return JudgingProcess(self.pack, self._compiled)

    def _give_back(self, process: JudgingProcess) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(process)
                return
        process.close()

    def _place(self, sha256: str) -> Path:
        assert self._reports is not None
        return self._reports / self.digest[:16] / sha256[:2] / f"{sha256}.json"

    def _keep(self, sha256: str, report: Report) -> None:
        if self._reports is None:
            return
        path = self._place(sha256)
        unfinished = path.with_name(f".{path.name}.{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if sum(1 for _ in path.parent.iterdir()) > REPORTS_MAX // 256:
                _forget_oldest(path.parent)
            unfinished.touch(mode=0o600)
            unfinished.write_bytes(orjson.dumps(report.as_json()))
            unfinished.replace(path)
        except OSError as error:
            # It is made again when somebody asks for it.
            _LOG.warning("a report could not be kept: %s", type(error).__name__)


def _forget_oldest(folder: Path) -> None:
    """Half of the reports of a folder: one that is asked for again is made again."""
    every = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime)
    for path in every[: len(every) // 2]:
        path.unlink(missing_ok=True)


def unreadable(said: dict[str, str]) -> Finding:
    """The finding for a document that the reader refuses."""
    return Finding(
        origin="lecture", rule=said["code"], level=Level.ERROR,
        text=f"Le document ne peut pas être lu : {said['text']}.",
        xpath=said["place"] if said["place"].startswith("/") else "",
        line=_line(said["place"]),
    )  # fmt: skip


def _line(place: str) -> int:
    words = place.replace(",", " ").split()
    return int(words[1]) if len(words) > 1 and words[0] == "line" and words[1].isdigit() else 0
