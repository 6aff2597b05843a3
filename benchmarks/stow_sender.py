"""Store folders of DICOM files by STOW-RS, each in one request (or each file in one), as a sender
in C would: blocks go from the file to the socket unread.

    python benchmarks/stow_sender.py PORT [--one-each] FOLDER...
"""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

HEAD = b"--stow\r\nContent-Type: application/dicom\r\n\r\n"
END = b"--stow--"


def send(port: int, requests: Sequence[Sequence[Path]]) -> None:
    """Make requests on one connection. Raises SystemExit when one is not stored whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for paths in requests:
        length = len(END) + sum(path.stat().st_size + len(HEAD) + 2 for path in paths)
        connection.putrequest("POST", "/dicomweb/studies")
        kind = 'multipart/related; type="application/dicom"; boundary=stow'
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        for path in paths:
            connection.sock.sendall(HEAD)
            with path.open("rb") as file:
                connection.sock.sendfile(file)
            connection.sock.sendall(b"\r\n")
        connection.sock.sendall(END)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"HTTP status {answer.status}")


def main(arguments: Sequence[str]) -> None:
    """Send the folders at the same time, each on a connection of its own."""
    port, *rest = arguments
    one_each = "--one-each" in rest
    failed: list[BaseException] = []

    def run(folder: Path) -> None:
        paths = sorted(folder.iterdir())
        try:
            send(int(port), [[path] for path in paths] if one_each else [paths])
        except (SystemExit, OSError, http.client.HTTPException) as error:
            failed.append(error)

    folders = [Path(each) for each in rest if not each.startswith("--")]
    threads = [threading.Thread(target=run, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(str(failed[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
