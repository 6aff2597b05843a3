"""A small FHIR R4 server over real HTTP that does what a test tells it to: it applies what it
understands, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], bool]
"""Called before a request is handled; True when it has dealt with the request."""


class FhirServer:
    """``resources`` by reference with their version; ``puts`` in the order in which they were
    applied; ``faults`` are used up one per request of the kind that changes something.
    A transaction of which ``refuses`` says so is answered with 422."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.resources: dict[str, tuple[int, dict[str, Any]]] = {}
        self.binaries: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.bundles: list[bytes] = []
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.refuses: Callable[[dict[str, Any]], bool] = lambda _bundle: False
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.server = _Quiet(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.owner = self  # type: ignore[attr-defined]
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.scheme = "https" if context else "http"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}/fhir"

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def changes(self) -> int:
        """How many requests wanted to change something."""
        return sum(method in {"POST", "PUT"} for method, _ in self.requests)

    def named(self, kind: str) -> list[str]:
        """The references of one kind of resource."""
        return [each for each in self.resources if each.startswith(f"{kind}/")]

    def order(self, kind: str = "Observation") -> list[str]:
        """References in the order in which they were put."""
        return [each for each in self.puts if each.startswith(f"{kind}/")]

    def put(self, reference: str, resource: dict[str, Any]) -> int:
        version, before = self.resources.get(reference, (0, None))
        self.puts.append(reference)
        if before == resource:
            return 200
        self.resources[reference] = (version + 1, resource)
        return 200 if before is not None else 201


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that went away in the middle of an answer."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    @property
    def owner(self) -> FhirServer:
        return self.server.owner  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _path(self) -> str:
        return self.path.partition("?")[0].removeprefix("/fhir").strip("/")

    def _faulty(self) -> bool:
        owner = self.owner
        with owner.lock:
            owner.requests.append((self.command, self._path()))
            owner.headers.append(dict(self.headers))
            fault = owner.always
            if fault is None and self.command != "GET" and owner.faults:
                fault = owner.faults.pop(0)
        return fault is not None and fault(self)

    def do_GET(self) -> None:
        if self._faulty():
            return
        found = self.owner.resources.get(self._path())
        if found is None:
            self.answer(404, outcome("not-found"))
        else:
            self.answer(200, found[1], ETag=f'W/"{found[0]}"')

    def do_PUT(self) -> None:
        if not self._faulty():
            self.apply()

    def do_POST(self) -> None:
        if not self._faulty():
            self.apply()

    def apply(self, *, answered: bool = True) -> None:
        """Do what is asked; without ``answered`` nobody hears of it."""
        owner, path, data = self.owner, self._path(), self.body()
        with owner.lock:
            if self.command == "GET":
                return
            if path.startswith("Binary/"):
                owner.binaries[path] = data
                status, said = 201, None
            elif self.command == "PUT":
                status, said = owner.put(path, json.loads(data)), None
            elif owner.refuses(bundle := json.loads(data)):
                status, said = 422, outcome("business-rule")
            else:
                owner.bundles.append(data)
                status, said = 200, self._transaction(bundle)
        if answered:
            self.answer(status, said)

    def _transaction(self, bundle: dict[str, Any]) -> dict[str, Any]:
        assert bundle["type"] == "transaction"
        statuses = []
        for entry in bundle["entry"]:
            request, resource = entry["request"], entry["resource"]
            assert request["method"] == "PUT"
            assert request["url"] == f"{resource['resourceType']}/{resource['id']}"
            statuses.append(self.owner.put(request["url"], resource))
        return {
            "resourceType": "Bundle",
            "type": "transaction-response",
            "entry": [{"response": {"status": f"{each} OK"}} for each in statuses],
        }


def outcome(code: str, expression: str = "") -> dict[str, Any]:
    issue: dict[str, Any] = {
        "severity": "error", "code": code, "diagnostics": "DUPONT Marie is not known here",
    }  # fmt: skip
    if expression:
        issue["expression"] = [expression]
    return {"resourceType": "OperationOutcome", "issue": [issue]}


# --- faults ----------------------------------------------------------------------------


def says(status: int, body: Any = None, **headers: str) -> Fault:
    """Answers so, and applies nothing."""

    def fault(handler: Handler) -> bool:
        handler.body()
        handler.answer(status, body, **headers)
        return True

    return fault


def silent_after_applying(handler: Handler) -> bool:
    """Applies it, and never answers."""
    handler.apply(answered=False)
    handler.owner.released.wait(30)
    handler.close_connection = True
    return True


def hangs(handler: Handler) -> bool:
    """Neither applies nor answers."""
    handler.owner.released.wait(30)
    handler.close_connection = True
    return True


def resets(handler: Handler) -> bool:
    """Applies nothing and resets the connection."""
    handler.body()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.close_connection = True
    handler.connection.close()
    return True


def resets_after_applying(handler: Handler) -> bool:
    """Applies it and resets the connection."""
    handler.apply(answered=False)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.close_connection = True
    handler.connection.close()
    return True


def garbage(handler: Handler) -> bool:
    """Answers with what is no HTTP."""
    handler.body()
    with contextlib.suppress(OSError):
        handler.wfile.write(b"\x15\x03\x01 this is no HTTP\r\n\r\n")
    handler.close_connection = True
    return True


def drips(handler: Handler) -> bool:
    """Applies it and sends a header byte now and then, for ever."""
    handler.apply(answered=False)
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not handler.owner.released.wait(0.05):
            handler.wfile.write(b"a")
    handler.close_connection = True
    return True


def slowly(seconds: float) -> Fault:
    """Applies it, and answers after a while."""

    def fault(handler: Handler) -> bool:
        time.sleep(seconds)
        handler.apply()
        return True

    return fault
