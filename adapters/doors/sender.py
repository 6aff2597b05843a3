"""Post a file to a gateway: what ``ecluse send`` does with one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx2

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
ANSWER_BYTES_MAX = 1 << 20
_BLOCK_BYTES = 1 << 18


def post_file(
    url: str,
    path: Path,
    *,
    media_type: str = "application/xml",
    timeout_seconds: float = ANSWER_SECONDS,
    client: httpx2.Client | None = None,
) -> tuple[int, bytes]:
    """Send one file's exact bytes; the HTTP status and the answer's body (at most 1 MiB).

    Streams from the disk. Redirects are not followed. Raises OSError when the file
    cannot be read and ``httpx2.HTTPError`` when the gateway cannot be reached or does
    not answer in time. With ``client`` its connections are used again.
    """
    if client is not None:
        return _post(client, url, path, media_type)
    timeout = httpx2.Timeout(timeout_seconds, connect=CONNECT_SECONDS)
    with httpx2.Client(timeout=timeout, follow_redirects=False) as own:
        return _post(own, url, path, media_type)


def _post(client: httpx2.Client, url: str, path: Path, media_type: str) -> tuple[int, bytes]:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        headers = {"Content-Type": media_type, "Content-Length": str(size)}
        with client.stream("POST", url, content=_blocks(stream, size), headers=headers) as answer:
            body = bytearray()
            for block in answer.iter_bytes():
                body += block
                if len(body) > ANSWER_BYTES_MAX:
                    break
            return answer.status_code, bytes(body[:ANSWER_BYTES_MAX])


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """At most the announced bytes, should someone write on."""
    while size > 0 and (block := stream.read(min(_BLOCK_BYTES, size))):
        size -= len(block)
        yield block
