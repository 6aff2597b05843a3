"""A named way in over DICOMweb: it takes Store transactions (PS3.18 section 10.5)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from adapters.dicom.identification import is_uid
from adapters.dicom.ledger import StudyLedger
from adapters.dicom.spool import SpoolFolder
from adapters.dicom.storage import SUCCESS, Storage
from adapters.dicom.syntaxes import VERIFICATION, storage_classes, transfer_syntaxes
from adapters.dicom.web.answers import store_answer, store_status
from adapters.dicom.web.media import DICOM, DICOM_JSON, DICOM_XML, MULTIPART, chosen
from adapters.dicom.web.multipart import MalformedBody, media_type
from adapters.dicom.web.settings import DicomwebSourceSettings
from adapters.dicom.web.storing import COMMITS_AT_ONCE, Accepted, Stored, Transaction
from adapters.doors.blocks import Blocks
from adapters.doors.problem import problem
from gateway.ports import Clock, Intake

Result = TypeVar("Result")
BLOCK_BYTES = 1 << 19
"""As much of a body is gathered before it is looked at."""
_TITLES = {400: "The request is not understood", 415: "The body's type is not accepted"}


class DicomwebSource:
    """Implements :class:`gateway.ports.Source`; its routes are DICOMweb's
    (:mod:`adapters.dicom.web.routes`)."""

    def __init__(
        self,
        settings: DicomwebSourceSettings,
        intake: Intake,
        clock: Clock,
        spool: Path,
        ledger: StudyLedger | None = None,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._intake, self._clock, self._spool, self._ledger = intake, clock, spool, ledger
        self._folder: SpoolFolder | None = None
        self._storage: Storage | None = None
        self._accepted = _accepted(settings)
        self._threads: ThreadPoolExecutor | None = None
        self._commits: ThreadPoolExecutor | None = None
        self._counts: Counter[str] = Counter()
        self._arriving = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Make the spool folder. Raises OSError when it cannot be made."""
        if self._folder is None:
            folder = await asyncio.to_thread(SpoolFolder, self._spool, self.name)
            self._threads = ThreadPoolExecutor(
                self._settings.requests_max, thread_name_prefix=f"dicomweb-{self.name}"
            )
            self._commits = ThreadPoolExecutor(
                2 * COMMITS_AT_ONCE, thread_name_prefix=f"dicomweb-commit-{self.name}"
            )
            self._storage = self._make_storage(self._settings, folder)
            self._folder = folder

    async def stop(self) -> None:
        """Take no new request, let those in flight be answered, remove the spool. Idempotent."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        await self._idle.wait()
        for pool in (self._threads, self._commits):
            if pool is not None:
                await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(folder.close)

    async def reconfigure(self, settings: DicomwebSourceSettings) -> None:
        """Take new settings from the next request on."""
        self._settings, self._accepted = settings, _accepted(settings)
        if self._folder is not None:
            self._storage = self._make_storage(settings, self._folder)

    def address(self) -> str:
        """The path below which it stores."""
        return f"/dicomweb/{self.name}"

    def statistics(self) -> Mapping[str, int]:
        """What happened since the start: requests by their status (``stow-200``), objects by
        theirs (``store-0000``), ``disconnected``."""
        return dict(self._counts)

    def _make_storage(self, settings: DicomwebSourceSettings, folder: SpoolFolder) -> Storage:
        return Storage(settings, self._intake, self._clock, folder, self._ledger)

    # --- one request ------------------------------------------------------------------

    async def store(self, request: Request, study: str, base: str) -> Response:
        """Answer a Store request. ``study`` is that of its address or empty; ``base`` the
        service's address, for what is told."""
        address = request.client.host if request.client else ""
        if not self._settings.allows(address):
            return self._counted(problem(403, detail="this address may not store here"))
        if self._folder is None or self._arriving >= self._settings.requests_max:
            return self._counted(self._unavailable())
        self._arriving += 1
        self._idle.clear()
        try:
            return self._counted(await self._store(request, study, base))
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._idle.set()

    def _counted(self, answer: Response) -> Response:
        self._counts[f"stow-{answer.status_code}"] += 1
        return answer

    async def _store(self, request: Request, study: str, base: str) -> Response:
        kind = chosen(request.headers.get("accept", ""), (DICOM_JSON, DICOM_XML))
        if kind is None:
            return problem(406, detail=f"the answer is {DICOM_JSON} or {DICOM_XML}", titles=_TITLES)
        if study and not is_uid(study):
            return problem(400, detail="the address names no Study Instance UID", titles=_TITLES)
        assert self._storage is not None
        assert self._commits is not None
        try:
            boundary = _boundary(request.headers.get("content-type", ""))
            if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise _NotTaken("a compressed body is not accepted (Content-Encoding)")
            peer = f"{request.client.host}:{request.client.port}" if request.client else ""
            transaction = Transaction(
                self._storage, self._accepted, self._commits,
                boundary=boundary, study=study, peer=peer,
            )  # fmt: skip
        except _NotTaken as error:
            return await self._refused(request, problem(415, detail=str(error), titles=_TITLES))
        except MalformedBody as error:
            return await self._refused(request, problem(400, detail=str(error), titles=_TITLES))
        try:
            return await self._received(request, transaction, base, kind)
        except ClientDisconnect:
            # Whole instances were kept and are; nobody is there to be told.
            self._counts["disconnected"] += 1
            return problem(400, detail="the sender closed in the middle", titles=_TITLES)
        finally:
            transaction.close()

    async def _received(
        self, request: Request, transaction: Transaction, base: str, kind: str
    ) -> Response:
        stream, status, detail = request.stream(), 0, ""
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                await self._fill(stream, transaction)
        except TimeoutError:
            status = 408
        except _BodyTooLarge:
            status = 413
        except MalformedBody as error:
            status, detail = 400, str(error)
            await self._drain(stream)
        results = await self._run(partial(transaction.finish, cut=bool(status)))
        if self._ledger is not None and not status:
            await self._run(transaction.tell, self._ledger, self.name)
        for each in results:
            self._counts[f"store-{each.status:04X}"] += 1
        if status == 400 and not any(each.status == SUCCESS for each in results):
            return problem(400, detail=detail, titles=_TITLES)
        if not results:
            return problem(status or 400, detail="the body has no part", titles=_TITLES)
        answer = store_answer(results, base, kind=kind, status=_status(status, results))
        if answer.status_code == 503:
            answer.headers["Retry-After"] = str(self._settings.retry_after_seconds)
        if status in {408, 413}:
            answer.headers["Connection"] = "close"
        return answer

    async def _fill(self, stream: AsyncIterator[bytes], transaction: Transaction) -> None:
        """Hand the body over in blocks; the next one is read while one is being written."""
        left = self._settings.request_bytes_max
        writing: asyncio.Future[None] | None = None
        waiting = Blocks(BLOCK_BYTES)
        try:
            while True:
                async with asyncio.timeout(self._settings.idle_timeout_seconds):
                    block = await anext(stream, None)
                if block is not None:
                    left -= len(block)
                    waiting.add(block)
                    if left < 0:
                        raise _BodyTooLarge
                if waiting.enough or (block is None and waiting.size):
                    if writing is not None:
                        await writing
                    writing = self._run(transaction.feed, waiting.take())
                if block is None:
                    break
            if writing is not None:
                await writing
        except BaseException as error:
            # The transaction belongs to one thread at a time.
            with contextlib.suppress(MalformedBody):
                if writing is not None:
                    await asyncio.shield(writing)
                if isinstance(error, ClientDisconnect | TimeoutError | asyncio.CancelledError):
                    # What came whole before the cut is kept like anything else.
                    await self._run(transaction.feed, waiting.take())
            raise

    def _run(self, function: Callable[..., Result], *arguments: Any) -> asyncio.Future[Result]:
        """Do something that blocks in one of the source's own threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _refused(self, request: Request, answer: Response) -> Response:
        """Read on and drop, within limits, so that the sender sees the answer and not a reset."""
        with contextlib.suppress(ClientDisconnect):
            await self._drain(request.stream())
        answer.headers["Connection"] = "close"
        return answer

    async def _drain(self, stream: AsyncIterator[bytes]) -> None:
        left = DRAIN_BYTES_MAX
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.idle_timeout_seconds):
                async for block in stream:
                    left -= len(block)
                    if left < 0:
                        return

    def _unavailable(self) -> Response:
        return problem(
            503,
            detail="too many requests store at the moment, or the gateway is closing; "
            "send it again",
            headers={"Retry-After": str(self._settings.retry_after_seconds)},
        )


DRAIN_BYTES_MAX = 16 << 20
"""As much of a body that is refused is read and dropped."""


class _NotTaken(Exception):
    """The body's type is not one that is stored."""


class _BodyTooLarge(Exception):
    """The body went beyond the limit."""


def _status(status: int, results: Sequence[Stored]) -> int:
    found = store_status(results)
    # What was cut after some objects were kept is told like any other partial success.
    return 202 if status and found in {200, 202} else status or found


def _boundary(content_type: str) -> str | None:
    """The boundary of the parts; None for one instance without parts. Raises _NotTaken."""
    found = media_type(content_type)
    if found.name == DICOM:
        return None
    root = media_type(found.parameters.get("type", "") or DICOM).name
    if found.name != MULTIPART or root != DICOM:
        raise _NotTaken(f'the body must be {MULTIPART}; type="{DICOM}", or {DICOM}')
    return re.sub(r"^\s+|\s+$", "", found.parameters.get("boundary", ""))


def _accepted(settings: DicomwebSourceSettings) -> Accepted:
    classes = settings.sop_classes or storage_classes()
    return Accepted(
        sop_classes=frozenset(classes) - {VERIFICATION},
        transfer_syntaxes=frozenset(settings.transfer_syntaxes or transfer_syntaxes()),
        object_bytes_max=settings.object_bytes_max,
        instances_max=settings.instances_max,
        request_is_study=settings.request_is_study,
    )
