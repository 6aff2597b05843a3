"""What ``ecluse send`` does over MLLP: both acknowledgement modes, TLS, and sending again."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.delivery import ERROR_MAX, Answer, Peer
from gateway.cli.output import say
from gateway.wording import plural

NOTES_MAX = 20
"""ERR segments of one answer that are told."""


def mllp_answers(peer: Peer, files: Sequence[Path]) -> Iterator[tuple[int, Answer]]:
    """Send every message of the files; see :func:`gateway.cli.delivery.answers`."""
    from adapters.hl7.answer import control_id_of
    from adapters.hl7.sender import read_messages
    from gateway.ports import Unreadable

    sender = _MllpSender(peer)
    try:
        for number, path in enumerate(files, 1):
            index = 0
            try:
                for index, message in enumerate(read_messages(path), 1):
                    told = _Told(
                        str(path), index, control_id_of(message).decode("utf-8", "replace")
                    )
                    yield number, sender.send(message, told)
            except (Unreadable, OSError) as fault:
                if isinstance(fault, ConnectionError) and not sender.reached:
                    raise
                yield (
                    number,
                    _failed(_Told(str(path), index + 1, ""), f"not sent: {_said(fault)}", 0),
                )
            if index == 0 and path.stat().st_size == 0:
                yield number, _failed(_Told(str(path), 1, ""), "not sent: the file is empty", 0)
    finally:
        sender.close()


@dataclass(frozen=True, slots=True)
class _Told:
    """Which message it is, for people."""

    file: str
    index: int
    control_id: str

    def __str__(self) -> str:
        place = f"{self.file}#{self.index}" if self.index > 1 else self.file
        return f"{place} ({self.control_id})" if self.control_id else place


class _MllpSender:
    """Sends messages one after the other, and again only where that was asked for and is told."""

    def __init__(self, peer: Peer) -> None:
        from adapters.hl7.release2_sender import Release2Client
        from adapters.hl7.sender import MllpClient

        self._peer = peer
        self.reached = False
        self._runner = asyncio.Runner()
        kind = Release2Client if peer.release == 2 else MllpClient
        self._client = kind(
            peer.host,
            peer.port,
            timeout_seconds=peer.timeout_seconds,
            tls=_client_context(peer),
            server_name=peer.tls.server_name if peer.tls is not None else "",
            on_pause=self._pause,
        )

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._client.close())
        if self._client.strays:
            count = self._client.strays
            say(f"{count} {plural(count, 'answer')} came that belonged to no message in hand")
        self._runner.close()

    def send(self, message: bytes, told: _Told) -> Answer:
        """One message until it is answered or the resends are used up.

        Raises ConnectionError when nobody is there at the first one.
        """
        from adapters.hl7.sender import NoAnswer

        for attempt in range(1, self._peer.resend + 2):
            try:
                return self._exchanged(message, told, attempt)
            except NoAnswer as error:
                said = str(error)
                self._reach()
                if attempt <= self._peer.resend:
                    say(f"sent again ({attempt + 1}): {told}: {said}")
            except OSError as error:  # before ValueError: a fault of a certificate is both
                from adapters.tls import connect_fault

                if not self.reached:
                    raise ConnectionError(connect_fault(error)) from None
                sent_before = attempt - 1
                prefix = "not sent again" if sent_before else "not sent"
                return _failed(told, f"{prefix}: {connect_fault(error)}", sent_before)
            except ValueError as error:
                return _failed(told, f"not sent: {error}", attempt - 1)
        return _failed(told, said, self._peer.resend + 1)

    def _exchanged(self, message: bytes, told: _Told, attempt: int) -> Answer:
        from adapters.hl7.answer import read_answer
        from gateway.ports import Unreadable

        exchange = self._runner.run(
            self._client.exchange(message, application=self._peer.application)
        )
        self._reach()
        common = {"file": told.file, "index": told.index, "control_id": told.control_id,
                  "attempts": attempt}  # fmt: skip
        if not exchange.answers:
            return Answer(**common, code="", answered=True, accepted=True, silent=True)  # type: ignore[arg-type]
        try:
            read = [read_answer(each) for each in exchange.answers]
        except Unreadable as fault:
            said = f"an answer that cannot be read: {fault}"
            return Answer(**common, code="", answered=False, accepted=False, error=said)  # type: ignore[arg-type]
        last = read[-1]
        error = last.said
        if exchange.missing:
            error = "the application acknowledgement did not come"
        return Answer(
            **common,  # type: ignore[arg-type]
            code=last.code,
            commit_code=read[0].code if len(read) > 1 else "",
            answered=bool(last.code) and not exchange.missing,
            accepted=last.positive and not exchange.missing,
            error=error[:ERROR_MAX] if not last.positive or exchange.missing else "",
            location=last.location,
            notes=tuple(f"{n.severity} {n.code} {n.location} {n.text}".strip()[:ERROR_MAX]
                        for n in last.errors[:NOTES_MAX]),
        )  # fmt: skip

    def _reach(self) -> None:
        """From now on a connection that cannot be made is tried for some time."""
        from adapters.hl7.sender import Reconnect

        self.reached = True
        self._client.reconnect = Reconnect(within_seconds=self._peer.reconnect_seconds)

    def _pause(self, error: OSError, seconds: float) -> None:
        from adapters.tls import connect_fault

        say(f"no connection ({connect_fault(error)}); trying again in {seconds:.1f} s")


def _client_context(peer: Peer) -> ssl.SSLContext | None:
    from adapters.tls import client_context

    return client_context(peer.tls) if peer.tls is not None else None


def _failed(told: _Told, error: str, attempts: int) -> Answer:
    return Answer(
        file=told.file, index=told.index, control_id=told.control_id, code="", answered=False,
        accepted=False, error=error[:ERROR_MAX], attempts=attempts,
    )  # fmt: skip


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def read_acknowledgement(answer: bytes) -> tuple[str, str]:
    """MSA-1, and the error text of an acknowledgement: ERR-8, ERR-7, ERR-3 or MSA-3."""
    from adapters.hl7.answer import read_answer
    from gateway.ports import Unreadable

    try:
        found = read_answer(answer)
    except Unreadable as fault:
        return "", f"an answer that cannot be read: {fault}"
    return found.code, found.said
