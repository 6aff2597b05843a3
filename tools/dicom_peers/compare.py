"""Lets dicom-rs and dcmjs-dimse talk to a gateway of its own, in both directions.

    tools/dicom_peers/compare.py [--node MODULES] [--rust PROGRAMS]

Starts a gateway as a process (SQLite), makes the exchanges one after the other, and prints each
with what came of it and whether that is as it should be. A toolkit that is not named is left out.

Exit code: 0 when every exchange is as it should be, 1 when one is not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.dicom_peers import node_client, node_server, rust_peer, samples
from tools.dicom_peers.standing import Gateway, Node, Rust
from tools.dicom_peers.table import NODE, RUST, Table

ROWS_SHOWN = 30


def compare(gateway: Gateway, node: Node | None, rust: Rust | None, folder: Path) -> list[bool]:
    """All exchanges; whether each was as it should be."""
    folder.mkdir()
    table = Table(
        gateway, node, rust, folder, samples.encodings(folder, 1), samples.encodings(folder, 20),
        samples.named(folder), samples.study(folder, 70),
    )  # fmt: skip
    # First, while no archive has been away for so long that it is left alone for a while.
    if node is not None:
        table.run(NODE, node_server.forwards)
        table.run(NODE, node_server.prompt)
    if rust is not None:
        table.run(RUST, rust_peer.forwards)
    if node is not None:
        for some in (*node_client.ALL, *node_server.ALL):
            table.run(NODE, some)
    if rust is not None:
        if node is None:
            files = [each.path for each in table.study]
            rust_peer.ran(table, "storescu", *map(str, files))
        for some in rust_peer.ALL:
            table.run(RUST, some)
    return table.rows


def main() -> int:
    """Compare, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", type=Path, help="the folder of dcmjs-dimse's packages")
    parser.add_argument("--rust", type=Path, help="the folder of dicom-rs's programs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as errors:
        folder = Path(name)
        gateway = Gateway(folder)
        gateway.start()
        node = Node(options.node, errors) if options.node else None
        rust = Rust(options.rust.resolve()) if options.rust else None
        try:
            rows = compare(gateway, node, rust, folder / "exchanges")
        finally:
            if node is not None:
                node.end()
            gateway.stop()
        bad = rows.count(False)
        print(f"{len(rows) - bad} of {len(rows)} exchanges are as they should be")
        if bad:
            log = (folder / "gateway.log").read_text(encoding="utf-8").splitlines()
            print("\n".join(log[-ROWS_SHOWN:]), file=sys.stderr)
        return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
