"""The yardstick for durable accept: a loop that frames, commits and answers, and nothing else.

Asyncio, one SQLite file (WAL, synchronous=FULL), one writer thread with group commit, the same
bytes stored. It does not read a message: the answer is a constant.

    python -m benchmarks.bare_loop DATABASE    (prints its port, then serves until it is ended)
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import sys
import threading

ANSWER = b"\x0bMSH|^~\\&|B|B|A|A|20261120||ACK|1|P|2.5\rMSA|AA|1\r\x1c\r"
Item = tuple[bytes, "asyncio.Future[None]", asyncio.AbstractEventLoop]


def writer(path: str, items: queue.SimpleQueue[Item]) -> None:
    """Commit whatever is queued, up to 128 at once."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "pragma journal_mode=wal; pragma synchronous=full;"
        "create table message(id integer primary key, body blob)"
    )
    while True:
        batch = [items.get()]
        with contextlib.suppress(queue.Empty):
            while len(batch) < 128:
                batch.append(items.get_nowait())
        connection.execute("begin immediate")
        connection.executemany("insert into message(body) values (?)", [(b,) for b, _, _ in batch])
        connection.execute("commit")
        loop = batch[0][2]
        loop.call_soon_threadsafe(lambda done=batch: [f.set_result(None) for _, f, _ in done])


async def serve(path: str) -> None:
    """Listen on a free port of the loopback."""
    items: queue.SimpleQueue[Item] = queue.SimpleQueue()
    threading.Thread(target=writer, args=(path, items), daemon=True).start()
    loop = asyncio.get_running_loop()

    async def connection(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await reader.readuntil(b"\x1c\r")
                stored = loop.create_future()
                items.put((frame[1:-2], stored, loop))
                await stored
                out.write(ANSWER)

    server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
