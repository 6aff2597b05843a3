"""How fast our HL7 v2 reader is, beside python-hl7 and hl7apy on the same messages.

Reads each message and touches thirty fields, the same ones in each library. Run:
``python -m benchmarks.hl7_reader [--rounds 5]``. Prints a table and, with ``--json FILE``,
writes the figures. Ratios of one run compare; absolute figures depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import hl7
import hl7apy.parser

from adapters.hl7.language import Hl7Language
from adapters.hl7.message import Message
from adapters.hl7.scopes import MessageScope
from gateway.ports import Scope

VERSION = "2.5"
PATHS = [
    *("MSH-3.1", "MSH-4.1", "MSH-7.1", "MSH-9.1", "MSH-9.2", "MSH-10", "MSH-12.1", "MSH-18"),
    *("PID-3.1", "PID-3.4.2", "PID-3.5", "PID-5.1", "PID-5.2", "PID-7.1", "PID-8"),
    *("PV1-2", "PV1-19.1", "ORC-1", "ORC-2.1", "OBR-2.1", "OBR-3.1", "OBR-4.1", "OBR-4.2"),
    *("OBR-7.1", "OBR-25", "OBX-3.1", "OBX-3.2", "OBX-5", "OBX-6.1", "OBX-11"),
]


def laboratory_report(number: int) -> bytes:
    """An ORU^R01 of about 2 kB with 25 segments."""
    lines = [
        f"MSH|^~\\&|SGL^1.2.250.1.1^ISO|LABO^1.2.250.1.2^ISO|ECLUSE|DMP|20240315101500+0100||"
        f"ORU^R01^ORU_R01|MSG{number:07d}|P|{VERSION}||||||UNICODE UTF-8",
        "PID|1||279035121518989^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS~"
        f"{number}^^^HOSP&1.2.250.1.3&ISO^PI||DÉSIRÉ^MARIE^^^^^L||19790315|F"
        "|||1 rue du Port^^LYON^^69001",
        f"PV1|1|O|CONS^12^A||||||||||||||||V{number}^^^HOSP&1.2.250.1.3&ISO^VN",
        f"ORC|RE|P{number}^DPI|F{number}^SGL||CM||||20240315",
        f"OBR|1|P{number}^DPI|F{number}^SGL|24331-1^Bilan lipidique^LN|||20240315083000|||||||||"
        "801234567^DUPONT^JEAN||||||20240315101000||CH|F",
    ]
    lines += [
        f"OBX|{n}|NM|{2000 + n}-3^Analyse numéro {n}^LN||{n}.{n:02d}|mmol/l^^UCUM|0.5-5.0|N|||F"
        "|||20240315083000||801234567^DUPONT"
        for n in range(1, 20)
    ]
    lines.append("NTE|1||Prélèvement à jeun \\T\\ sans garrot")
    return ("\r".join(lines) + "\r").encode()


def our_reader() -> Callable[[bytes], list[str]]:
    language = Hl7Language()
    root = language.root([VERSION])
    reads = [language.path(path, versions=[VERSION], within=root).read for path in PATHS]

    def run(data: bytes) -> list[str]:
        scope: Scope = MessageScope(Message.read(data))
        return [read(scope)[0].text for read in reads]

    return run


def _numbers(path: str) -> tuple[str, int, int, int]:
    segment, _, rest = path.partition("-")
    field, component, sub, *_ = [*map(int, rest.split(".")), 0, 0]
    return segment, field, component, sub


def python_hl7() -> Callable[[bytes], list[str]]:
    places = [_numbers(path) for path in PATHS]

    def run(data: bytes) -> list[str]:
        message = hl7.parse(data.decode())
        texts = []
        for segment, field, component, sub in places:
            try:
                found = message.extract_field(segment, 1, field, 1, component or 1, sub or 1)
            except (LookupError, IndexError):
                found = ""
            texts.append(found)
        return texts

    return run


def hl7apy_parser() -> Callable[[bytes], list[str]]:
    places = [_numbers(path) for path in PATHS]

    def run(data: bytes) -> list[str]:
        message = hl7apy.parser.parse_message(data.decode(), find_groups=False)
        texts = []
        for segment, field, component, sub in places:
            found = getattr(getattr(message, segment.lower())[0], f"{segment}_{field}".lower())
            if component and len(found):
                children = found[0].children
                found = children[component - 1] if component <= len(children) else None
            texts.append(getattr(found, "value", "") if sub == 0 else str(found))
        return texts

    return run


def python_hl7_parse_only(data: bytes) -> list[str]:
    hl7.parse(data.decode())
    return []


def split_only(data: bytes) -> list[str]:
    """The floor: every segment split into fields, nothing else."""
    return [fields[-1] for fields in (line.split("|") for line in data.decode().split("\r"))]


def seconds_per_message(run: Callable[[bytes], list[str]], messages: list[bytes]) -> float:
    start = time.process_time()
    for message in messages:
        run(message)
    return (time.process_time() - start) / len(messages)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    messages = [laboratory_report(number) for number in range(2000)]
    contestants = {
        "ours": (our_reader(), messages),
        "split only": (split_only, messages),
        "hl7.parse": (python_hl7_parse_only, messages[:200]),
        "python-hl7": (python_hl7(), messages[:200]),
        "hl7apy": (hl7apy_parser(), messages[:10]),
    }
    for run, sample in contestants.values():
        run(sample[0])
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):  # interleaved: a slow moment slows all three
        for name, (run, sample) in contestants.items():
            rounds[name].append(seconds_per_message(run, sample))
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    print(
        f"{len(messages[0])} bytes, {messages[0].count(bytes([13]))} segments, {len(PATHS)} fields"
    )
    for name, median in medians.items():
        ratio = median / medians["ours"]
        print(
            f"{name:12} {median * 1e6:10.1f} µs  {1 / median:10.0f} messages/s  {ratio:8.1f} x ours"
        )
    if options.json:
        options.json.write_text(json.dumps(medians, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
