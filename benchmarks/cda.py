"""What documents cost: reading, mapping and checking them, and judging them by the official rules.

    python -m benchmarks.cda [--rounds 3] [--json FILE]

Reads ``../shared/corpora``. Every figure is time of the processor, medians of rounds in turns;
the memory is that of a document with a PDF of 30 MB, as a multiple of its size
(``tests/integration/cda/test_large_documents.py`` holds it).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.cda.document import read_document
from adapters.cda.rendering.page import render
from adapters.cda.validation.engine import Judge
from adapters.cda.validation.pack import Pack
from gateway.garbage import calm_collector
from gateway.mapping_side import load_library, make_normaliser
from gateway.model import Format, Payload
from gateway.normalise import Normaliser, Original, Reading
from gateway.settings import load_settings

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
HEADER = "schematrons/profils/structurationMinimale/ASIP-STRUCT-MIN-StrucMin.sch"


def milliseconds(call: Callable[[], Any], times: int = 5) -> float:
    """The median time of the processor for one call."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append((time.process_time() - start) * 1000)
    return round(statistics.median(taken), 2)


def normaliser() -> Normaliser:
    """Stage 2 with the shipped mappings."""
    settings = load_settings(None, environment={})
    return make_normaliser(settings, load_library(settings))


def throughput(payloads: list[Payload], rounds: int) -> dict[str, float]:
    """Documents a second of one core: read, mapped and checked, and shown as a page."""
    stage = normaliser()

    def mapped() -> None:
        for payload in payloads:
            made = stage.normalise(Original(source="b", format=Format.CDA, payloads=[payload]))
            if not isinstance(made, Reading):
                raise SystemExit(f"a document was not mapped: {made.cause.code}")

    def shown() -> None:
        for payload in payloads:
            render(read_document(payload))

    mapped()
    calm_collector()  # as every gateway does, and its mapping processes
    return {
        "read_map_check_per_second": round(1000 * len(payloads) / milliseconds(mapped, rounds), 1),
        "render_per_second": round(1000 * len(payloads) / milliseconds(shown, rounds), 1),
        "mean_kilobytes": round(sum(each.size for each in payloads) / len(payloads) / 1000),
    }


def judging(payload: Payload, rounds: int) -> dict[str, float]:
    """Milliseconds for one CR-BIO 2024.01, warm: schema, header, the whole set."""
    pack = Pack.open(CORPORA / "cisis")
    judge = Judge()
    judge.load_schema(str(pack.schema))
    judge.saxon.start()
    names, _ = pack.schematrons([("1.2.250.1.213.1.1.1.55", "2024.01")], structured=True)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        for name in names:
            ready = pack.ready(name, Path(folder))
            content = {
                "title": ready.name, "stylesheet": ready.stylesheet,
                "rules": [[rule.name, rule.level] for rule in ready.rules],
                "documents": {known: path.read_text() for known, path in ready.value_sets.items()},
            }  # fmt: skip
            problem = judge.load_rules(name, json.dumps(content).encode())
            if problem:
                raise SystemExit(problem["problem"])
        compiling = time.process_time() - start

    document = read_document(payload)
    assert judge.schema is not None
    schema = judge.schema

    def by(*wanted: str) -> None:
        judge.document = replace(document)
        judge.judge(list(wanted))

    for _ in range(10):
        by(*names)
    return {
        "schema_ms": milliseconds(lambda: schema.validate(document.root.getroottree()), rounds * 5),
        "header_ms": milliseconds(lambda: by(HEADER), rounds * 5),
        "whole_set_ms": milliseconds(lambda: by(*names), rounds * 5),
        "compile_whole_set_seconds": round(compiling, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    documents = sorted((CORPORA / "cda").glob("*.xml"))
    if not documents:
        print("the corpora are not beside the project", file=sys.stderr)
        return 1
    payloads = [Payload.from_bytes(each.read_bytes()) for each in documents]
    one = Payload.from_bytes(
        (CORPORA / "cda" / "BIO-CR-BIO_2024.01_CRP_non_LOINC.xml").read_bytes()
    )
    figures = {**throughput(payloads, options.rounds), **judging(one, options.rounds)}
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
