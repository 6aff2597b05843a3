"""A gateway as a process: its HTTP face, its signals, and the file that says where it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from gateway.bootstrap import Gateway
from gateway.configuration import NothingToRead
from gateway.settings import Loaded, Settings

log = structlog.get_logger("ecluse.gateway")

RUNNING_FILE = "gateway.json"
"""In the state folder while a gateway runs there: its process id and addresses."""


async def serve(
    settings: Settings,
    *,
    reread: Callable[[], Loaded] | None = None,
    on_started: Callable[[Gateway, str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Run a gateway with its HTTP face until ``stop`` is set, or SIGTERM or SIGINT.

    With ``reread`` a SIGHUP lets it read its configuration again. ``on_started`` gets the
    gateway and the HTTP address once every door is open.
    Raises OSError when a port is taken, and what :meth:`Gateway.build` raises.
    """
    from gateway.api import create_app

    stop = stop or asyncio.Event()
    hangup = asyncio.Event()
    _on_signals(hangup, signal.SIGHUP)  # from here on: it would end the process
    gateway = await asyncio.to_thread(Gateway.build, settings, reread)
    listening = _bind(settings.http.listen)
    host, port = listening.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = _Server(
        uvicorn.Config(create_app(gateway), log_config=None, lifespan="off", timeout_keep_alive=30)
    )
    serving: asyncio.Task[None] | None = None
    reloading: asyncio.Task[None] | None = None
    running = settings.state / RUNNING_FILE
    try:
        await gateway.start()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await server.listening(serving)
        _say_running(running, gateway, address)
        gateway.configuration.on_reading = lambda: _say_running(running, gateway, address)
        reloading = asyncio.create_task(_reload_when(hangup, gateway))
        _on_signals(stop, signal.SIGTERM, signal.SIGINT)
        log.info("http listens", at=address)
        if on_started is not None:
            on_started(gateway, address)
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    finally:
        if reloading is not None:
            reloading.cancel()
        await gateway.configuration.close()
        running.unlink(missing_ok=True)
        server.should_exit = True
        if serving is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        listening.close()
        await gateway.stop()


class _Server(uvicorn.Server):
    """Leaves the signals to :func:`serve`, which has more to close than HTTP; says when it
    listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self._listens.set()

    async def listening(self, serving: asyncio.Task[None]) -> None:
        """Wait until it takes connections. Raises what ``serving`` it ended with before."""
        waiting = asyncio.create_task(self._listens.wait())
        try:
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if serving.done():
            await serving

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Capture none."""
        yield


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, int(port)))
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}") from None
    return listening


def _say_running(path: Path, gateway: Gateway, address: str) -> None:
    told = {
        "pid": os.getpid(),
        "http": address,
        "sources": gateway.addresses(),
        "configuration": gateway.configuration.last.shape(),
    }
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(told), encoding="utf-8")
    partial.replace(path)


def _on_signals(event: asyncio.Event, *names: signal.Signals) -> None:
    loop = asyncio.get_running_loop()
    for name in names:
        # Only the main thread may do so; a test that serves in another sets the event itself.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(name, event.set)


async def _reload_when(hangup: asyncio.Event, gateway: Gateway) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            await gateway.configuration.reload()
        except NothingToRead as error:
            log.warning("nothing is read again", reason=str(error))
        except Exception as error:
            log.critical("a reload failed", exc_info=error)
