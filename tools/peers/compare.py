"""Clients that are not ours send the same messages to one gateway: do they get the same answers?

A bare socket, python-hl7's client, HAPI's block writer and reader, HAPI's client (which parses
each message and writes it again), Camel's client, and HAPI's client of HL7 over HTTP, each at a
source of its own; then all but the last over mutual TLS. Then the other way round: ``ecluse send`` to
HAPI's and Camel's servers, with and without TLS. Prints a line for each; every message on which
two do not agree goes to the report.

    compare.py --report FILE CORPUS -- java -cp … Peer
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hl7.client import MLLPClient
from keys import Keys

from adapters.hl7.framing import Frame, FrameReader, frame
from adapters.hl7.sender import read_messages
from tests.acceptance.gateway_process import GatewayProcess
from tests.servers import free_port

ANSWER_MS, SILENCE_MS = 20_000, 250
FIELDS = {"MSA": (1, 2), "ERR": (1, 2, 3, 4, 8)}
Told = tuple[str, ...] | str
Send = Callable[[bytes, int], bytes | None]


class NotSent(Exception):
    """A client that will not send a message, or cannot read its answer; with what it says."""


@dataclass(frozen=True)
class Sample:
    """One message of the corpus."""

    name: str
    body: bytes

    @property
    def control_id(self) -> str:
        """MSH-10, by splitting."""
        header = re.split(rb"[\r\n]", self.body[max(self.body.find(b"MSH"), 0) :], maxsplit=1)[0]
        parts = header.split(header[3:4]) if len(header) > 3 else []
        return parts[9].decode("latin-1") if len(parts) > 9 else ""


def samples(folder: Path) -> list[Sample]:
    """Every message of every file."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "MANIFEST.tsv":
            name = str(path.relative_to(folder))
            found += [Sample(f"{name}#{n}", body) for n, body in enumerate(read_messages(path), 1)]
    return found


def told_by(answer: bytes | None) -> Told:
    """What an answer says, without its own time and control id."""
    if answer is None:
        return ("none",)
    lines = [line for line in answer.decode("latin-1").split("\r") if line]
    separator = lines[0][3]
    found = []
    for line in lines:
        parts = line.split(separator)
        numbers = FIELDS.get(parts[0], ())
        found += [f"{parts[0]}-{n} {parts[n]}" for n in numbers if n < len(parts) and parts[n]]
    # A client that writes a message anew moves its bytes.
    return tuple(re.sub(r"offset [0-9]+", "offset", each) for each in found)


# --- the clients ---------------------------------------------------------------------


@contextmanager
def bare_socket(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Send]:
    """Nothing but a socket."""
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        if tls is not None:
            connection = stack.enter_context(
                tls.wrap_socket(connection, server_hostname="localhost")
            )
        frames, answers = FrameReader(), []

        def send(body: bytes, milliseconds: int) -> bytes | None:
            connection.settimeout(milliseconds / 1000)
            connection.sendall(frame(body))
            while not answers:
                try:
                    data = connection.recv(1 << 16)
                except TimeoutError:
                    return None
                if not data:
                    raise NotSent("the connection was closed")
                answers.extend(e.payload for e in frames.receive(data) if isinstance(e, Frame))
            return answers.pop(0)

        yield send


@contextmanager
def python_hl7(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Send]:
    """python-hl7's client, in a set where every byte is a character."""
    with MLLPClient("127.0.0.1", port, encoding="latin-1") as client:
        if tls is not None:
            client.socket = tls.wrap_socket(client.socket, server_hostname="localhost")

        def send(body: bytes, milliseconds: int) -> bytes | None:
            client.socket.settimeout(milliseconds / 1000)
            try:
                answer: bytes = client.send_message(body.decode("latin-1"))
            except TimeoutError:
                return None
            return answer.strip(b"\x0b\x1c\r") + b"\r"

        yield send


@contextmanager
def peer(java: Sequence[str], *arguments: str, charset: str = "ISO-8859-1") -> Iterator[Send]:
    """One of HAPI's and Camel's clients, in a process of its own."""
    process = subprocess.Popen(
        [*java, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def send(body: bytes, milliseconds: int) -> bytes | None:
        print(
            milliseconds, charset, base64.b64encode(body).decode(), file=process.stdin, flush=True
        )
        line = process.stdout.readline().rstrip("\n")  # type: ignore[union-attr]
        if line.startswith("!"):
            raise NotSent(line[1:])
        if not line:
            raise NotSent("the process ended")
        return None if line == "-" else base64.b64decode(line)

    try:
        yield send
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


# --- comparing -----------------------------------------------------------------------


def ask(send: Send, wanted: list[Sample], reference: dict[str, Told] | None) -> dict[str, Told]:
    """What a client was told for each message. What gets no answer is not waited for long."""
    found: dict[str, Told] = {}
    for sample in wanted:
        silent = reference is not None and reference[sample.name] == ("none",)
        try:
            answer = send(sample.body, SILENCE_MS if silent else ANSWER_MS)
            found[sample.name] = told_by(answer)
        except NotSent as fault:
            found[sample.name] = f"not sent: {fault}"
    return found


def is_utf8(body: bytes) -> bool:
    """Whether HL7 over HTTP may say that a body is UTF-8."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    header = re.split(rb"[\r\n]", body[max(body.find(b"MSH"), 0) :], maxsplit=1)[0].upper()
    return body.isascii() or b"8859" not in header


def compare(
    name: str, found: dict[str, Told], reference: dict[str, Told], report: list[dict[str, object]]
) -> bool:
    """Print how far a client agrees with the bare socket; True when nothing differs."""
    silent = {name for name, told in found.items() if isinstance(told, str)}
    unlike = [each for each in found if each not in silent and found[each] != reference[each]]
    for each in unlike:
        report.append(
            {"client": name, "message": each, "told": found[each], "socket": reference[each]}
        )
    for each in sorted(silent):
        report.append({"client": name, "message": each, "told": found[each]})
    agreed = len(found) - len(silent) - len(unlike)
    print(f"{name:32} {agreed:5} alike, {len(unlike):3} unlike, {len(silent):3} not sent by it")
    for words, count in Counter(
        re.sub(r"[0-9]+", "0", str(found[each]))[:100] for each in silent
    ).most_common(6):
        print(f"{'':34}{count:4} {words}")
    return not unlike


def to_server(
    name: str,
    java: Sequence[str],
    role: str,
    wanted: list[Sample],
    folder: Path,
    keys: Keys | None = None,
) -> bool:
    """``ecluse send`` to a server that is not ours: every answer read, each to its own message."""
    port = free_port()
    command = keys.java(java, "server") if keys else java
    process = subprocess.Popen(
        [*command, role, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    files = folder / f"to-{role}"
    files.mkdir(exist_ok=True)
    for number, sample in enumerate(wanted):
        (files / f"{number:05d}.hl7").write_bytes(sample.body)
    secure = (
        ["--ca", keys.ca, "--cert", keys.own.certificate, "--key", keys.own.key,
         "--server-name", "localhost"] if keys else []
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "send", str(files), "--to",
         f"mllp{'s' if keys else ''}://127.0.0.1:{port}", *map(str, secure), "--json",
         "--timeout", str(ANSWER_MS // 1000)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    process.stdin.close()
    process.wait(30)
    process.stdout.close()
    told = json.loads(done.stdout)
    print(f"{name:32} {told['sent']:5} sent, {told['unanswered']} unanswered, "
          + ", ".join(f"{code} {count}" for code, count in told["codes"].items()))  # fmt: skip
    return bool(told["codes"] == {"AA": len(wanted)})


CLIENTS = {
    "python-hl7": "python-hl7",
    "framing": "HAPI, block by block",
    "initiator": "HAPI, its client",
    "camel": "Camel, its client",
}
"""Name of the source (and of the role in Java), and what is printed."""


def ask_each(
    java: Sequence[str],
    ports: dict[str, int],
    wanted: list[Sample],
    reference: dict[str, Told],
    report: list[dict[str, object]],
    keys: Keys | None = None,
) -> tuple[bool, dict[str, Told]]:
    """All clients over MLLP, with TLS or without: whether they agree, and what HAPI's own was told."""
    suffix, command = ("-tls", keys.java(java)) if keys else ("", list(java))
    tls = keys.context() if keys else None
    alike = True
    parsed: dict[str, Told] = {}
    if keys:
        with bare_socket(ports[f"socket{suffix}"], tls) as send:
            found = ask(send, wanted, reference)
            alike &= compare("a bare socket, TLS", found, reference, report)
    for role, words in CLIENTS.items():
        port = ports[f"{role}{suffix}"]
        to_java = peer(command, role, "127.0.0.1", str(port))
        with python_hl7(port, tls) if role == "python-hl7" else to_java as send:
            found = ask(send, wanted, reference)
        alike &= compare(words + (", TLS" if keys else ""), found, reference, report)
        parsed = found if role == "initiator" else parsed
    return alike, parsed


def main() -> int:
    """0 when nothing differs, 1 when something does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("java", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    java = [each for each in options.java if each != "--"]
    wanted = samples(options.corpus)
    ports = {f"{name}{tls}": free_port() for name in ("socket", *CLIENTS) for tls in ("", "-tls")}
    report: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder) / "keys")
        gateway = GatewayProcess(Path(folder) / "gateway")
        gateway.extra = {
            "worker": {"threads": 0},
            "sources": [
                *({"name": n, "type": "mllp", "listen": f"127.0.0.1:{p}",
                   **({"tls": keys.settings()} if n.endswith("-tls") else {})}
                  for n, p in ports.items()),
                {"name": "hapi-http", "type": "hl7-http"},
            ],
        }  # fmt: skip
        gateway.start(timeout=180)
        try:
            with bare_socket(ports["socket"]) as send:
                reference = ask(send, wanted, _silences(wanted))
            print(f"{'a bare socket':32} {len(wanted):5} messages: "
                  + ", ".join(f"{code} {count}" for code, count in _codes(reference)))  # fmt: skip
            plain, parsed = ask_each(java, ports, wanted, reference, report)
            secure, _ = ask_each(java, ports, wanted, reference, report, keys)
            url = f"{gateway.url}/intake/hl7/hapi-http"
            with peer(java, "http", url, charset="UTF-8") as send:
                found = ask(send, [each for each in wanted if is_utf8(each.body)], reference)
                http = compare("HAPI, HL7 over HTTP (UTF-8)", found, reference, report)
        finally:
            gateway.stop()
        # What HAPI itself can read: to the rest its server says nothing, or AE.
        taken = [each for each in wanted if parsed[each.name][0] == "MSA-1 AA"]
        back = [
            to_server(f"ecluse send, to {name}{', TLS' if tls else ''}", java, role, taken,
                      Path(folder), tls)
            for name, role in (("HAPI", "receive"), ("Camel", "camel-receive"))
            for tls in (None, keys)
        ]  # fmt: skip
    options.report.write_text("".join(json.dumps(each) + "\n" for each in report), encoding="utf-8")
    print(f"what differs, message by message: {options.report}")
    return 0 if plain and secure and http and all(back) else 1


def _silences(wanted: list[Sample]) -> dict[str, Told]:
    """What the tests' own table says of who gets no answer, so that the socket does not wait."""
    from tests.integration.hl7.test_corpus import accepted_with, refusals

    known = refusals()
    found: dict[str, Told] = {}
    for sample in wanted:
        name, _, number = sample.name.rpartition("#")
        refused = known.get((name, int(number)))
        due = refused[0] if refused else accepted_with(sample.body)
        found[sample.name] = ("none",) if due == "none" else ("answer",)
    return found


def _codes(reference: dict[str, Told]) -> list[tuple[str, int]]:
    return Counter(told[0].removeprefix("MSA-1 ") for told in reference.values()).most_common()


if __name__ == "__main__":
    raise SystemExit(main())
