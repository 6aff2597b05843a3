"""How fast one core reads and maps laboratory results of 2 kB.

Measures, on the same synthetic messages and in the same process: reading and
mapping with the shipped ``hl7.oru_r01``, the same with the R4 check and JSON, the
same with provenance, and ``hl7.parse`` and hl7apy's parser, which only parse. Every
figure is the median of several rounds of processor time; results go to stdout as
JSON, for ``make bench``.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from adapters.hl7.language import Hl7Language, Hl7Reader
from gateway.mapping import Library, MappingContext, packaged_mappings
from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps
from gateway.model import Format, Payload

_TESTS = (
    ("718-7", "Hémoglobine", "g/L", "130-170"),
    ("789-8", "Hématies", "10*12/L", "4,28 - 5,79"),
    ("6690-2", "Leucocytes", "10*9/L", "4.0-10.0"),
    ("777-3", "Plaquettes", "10*9/L", "150-400"),
    ("2345-7", "Glucose", "mmol/L", "3.9-6.1"),
    ("2160-0", "Créatinine", "umol/L", "59-104"),
    ("2951-2", "Sodium", "mmol/L", "136-145"),
    ("2823-3", "Potassium", "mmol/L", "3.5-5.1"),
    ("1988-5", "Protéine C réactive", "mg/L", "<5"),
    ("4548-4", "Hémoglobine glyquée", "%", "<6.0"),
    ("1742-6", "ALAT", "U/L", "<50"),
    ("2276-4", "Ferritine", "ug/L", "30-400"),
    ("3016-3", "TSH", "mUI/L", "0.27-4.20"),
)


def messages(count: int, seed: int = 20240306) -> list[bytes]:
    """Synthetic results of 13 laboratory tests each, about 2 kB, no two alike."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        lines = [
            "MSH|^~\\&|SGL|LABO-X|ECLUSE|CHU-X|20240306111154||ORU^R01^ORU_R01"
            f"|B{number:06d}|P|2.5|||||FRA|UNICODE UTF-8",
            f"PID|1||{number:08d}^^^CHU-X&1.2.250.1.999.1&ISO^PI~279035121518989^^^ASIP-SANTE-INS-NIR"
            "&1.2.250.1.213.1.4.10&ISO^INS||PAT-TROIS^DOMINIQUE^DOMINIQUE^^^^L||19790328|F",
            f"PV1|1|I|MED^12^1^CHU-X||||||||||||||||V{number:06d}^^^CHU-X&1.2.250.1.999.1&ISO^VN",
            f"ORC|RE|P{number:06d}^DPI|F{number:06d}^LABO-X",
            f"OBR|1|P{number:06d}^DPI|F{number:06d}^LABO-X|11502-2^Bilan biologique^LN|||202403060810"
            "||||||||^PRESCRIPTEUR^ALICE||||||20240306111154|||F",
        ]
        for position, (code, name, unit, limits) in enumerate(_TESTS, 1):
            value = f"{chance.uniform(0.5, 400):.{chance.randint(0, 2)}f}"
            flag = chance.choice(["N", "N", "N", "H", "L"])
            lines.append(
                f"OBX|{position}|NM|{code}^{name}^LN^L{position:03d}^{name}^L||{value}"
                f"|{unit}^^UCUM|{limits}|{flag}|||F|||20240306102500"
            )
        made.append("\r".join(lines).encode() + b"\r")
    return made


def per_second(work: Callable[[bytes], object], given: Sequence[bytes], rounds: int) -> float:
    """Messages a second of processor time, the median of some rounds."""
    figures = []
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        for message in given:
            work(message)
        figures.append(len(given) / (time.process_time() - start))
    return statistics.median(figures)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    given = messages(options.messages)
    library = Library.load([packaged_mappings()], {Format.HL7V2: Hl7Language()})
    reader, checker = Hl7Reader(), Checker.load()
    context = MappingContext(zone="Europe/Paris", source="bench")

    def mapped(message: bytes, *, trace: bool = False) -> list[dict[str, object]]:
        root = reader.read([Payload.from_bytes(message)])
        program = library.match(root, Format.HL7V2)
        if program is None:
            raise SystemExit("the shipped mappings do not take the benchmark's messages")
        return [entry.resource for entry in program.run(root, context, trace=trace).entries]

    def complete(message: bytes) -> bytes:
        resources = mapped(message)
        if checker.check_entries(resources):
            raise SystemExit("an entry does not pass the R4 check")
        return dumps(resources)

    import hl7
    from hl7apy.parser import parse_message

    texts = {message: message.decode() for message in given}
    few = given[: max(10, len(given) // 20)]
    figures = {
        "read_and_map": per_second(mapped, given, options.rounds),
        "read_map_check_serialise": per_second(complete, given, options.rounds),
        "read_and_map_with_provenance": per_second(
            lambda message: mapped(message, trace=True), given, options.rounds
        ),
        "hl7_parse_only": per_second(
            lambda message: hl7.parse(texts[message]), given, options.rounds
        ),
        "hl7apy_parse_only": per_second(
            lambda message: parse_message(texts[message], find_groups=False), few, 3
        ),
    }
    base = figures["read_and_map"]
    report = {
        "benchmark": "mapping_oru",
        "python": platform.python_version(),
        "messages": len(given),
        "bytes_mean": round(statistics.mean(len(message) for message in given)),
        "messages_per_second": {name: round(figure, 1) for name, figure in figures.items()},
        "ratio_to_hl7_parse": round(base / figures["hl7_parse_only"], 2),
        "ratio_to_hl7apy_parse": round(base / figures["hl7apy_parse_only"], 1),
        "provenance_cost": round(1 - figures["read_and_map_with_provenance"] / base, 3),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
