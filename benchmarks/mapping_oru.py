"""How fast one core reads and maps laboratory results of 2 kB.

Measures, on the same synthetic messages and in the same process: reading and
mapping with the shipped ``hl7.oru_r01``, the same with the R4 check and JSON, the
same with the trace of every value written out, and ``hl7.parse`` and hl7apy's parser,
which only parse. Every figure is the median of several rounds of processor time, each
over messages that were not there before; results go to stdout as JSON, for ``make bench``.
The garbage collector is set as the gateway sets it.
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
from gateway.garbage import calm_collector
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


_FAMILIES = ("DURAND", "LEFÈVRE", "MOREAU", "N'GUYEN", "SAINT-ANDRÉ", "PETIT", "ROUSSEL", "BENALI")
_GIVEN = ("DOMINIQUE", "CAMILLE", "JEAN-PIERRE", "INÈS", "MOHAMED", "CLAIRE", "ÉLODIE", "PAUL")
_DOCTORS = 40
_WARDS = ("MED", "CHIR", "CARD", "URG", "PNEUMO", "GERIA")


def messages(count: int, seed: int = 20240306) -> list[bytes]:
    """Synthetic results of 13 laboratory tests each, about 2 kB, no two of one patient.

    As in one laboratory's traffic its codes, units and ranges, the wards and forty doctors
    come again; patients, their traits and numbers, orders, visits, times and values do not.
    """
    chance = random.Random(seed)
    first = chance.randrange(10**6)
    made = []
    for number in range(first, first + count):
        minute = (
            f"{chance.randint(1, 28):02d}{chance.randint(6, 19):02d}{chance.randint(0, 59):02d}"
        )
        sampled, done, sent = (
            f"202403{minute}{second:02d}" for second in chance.sample(range(60), 3)
        )
        born = f"{chance.randint(1930, 2020)}{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}"
        ins = f"{chance.randint(1, 2)}{chance.randrange(10**14):014d}"
        family, given = chance.choice(_FAMILIES), chance.choice(_GIVEN)
        doctor = chance.randrange(_DOCTORS)
        orderer = f"{10100000000 + doctor}^PRESCRIPTEUR{doctor}^ALICE^^^DR^^^ASIP-SANTE-PS"
        orderer += "&1.2.250.1.71.4.2.1&ISO^D^^^RPPS"
        lines = [
            f"MSH|^~\\&|SGL|LABO-X|ECLUSE|CHU-X|{sent}||ORU^R01^ORU_R01"
            f"|B{number:07d}|P|2.5|||||FRA|UNICODE UTF-8",
            f"PID|1||{number:08d}^^^CHU-X&1.2.250.1.999.1&ISO^PI~{ins}^^^ASIP-SANTE-INS-NIR"
            f"&1.2.250.1.213.1.4.10&ISO^INS||{family}^{given}^{given}^^^^L||{born}|F",
            f"PV1|1|I|{chance.choice(_WARDS)}^{chance.randint(1, 60)}^{chance.randint(1, 2)}^CHU-X"
            f"||||||||||||||||V{number:07d}^^^CHU-X&1.2.250.1.999.1&ISO^VN",
            f"ORC|RE|P{number:07d}^DPI|F{number:07d}^LABO-X",
            f"OBR|1|P{number:07d}^DPI|F{number:07d}^LABO-X|11502-2^Bilan biologique^LN"
            f"|||{sampled}|||||||||{orderer}||||||{done}|||F",
        ]
        for position, (code, name, unit, limits) in enumerate(_TESTS, 1):
            value = f"{chance.uniform(0.5, 400):.{chance.randint(0, 2)}f}"
            flag = chance.choice(["N", "N", "N", "H", "L"])
            lines.append(
                f"OBX|{position}|NM|{code}^{name}^LN^L{position:03d}^{name}^L||{value}"
                f"|{unit}^^UCUM|{limits}|{flag}|||F|||{done}"
            )
        made.append("\r".join(lines).encode() + b"\r")
    return made


def per_second(work: Callable[[bytes], object], rounds: Sequence[Sequence[bytes]]) -> float:
    """Messages a second of processor time, the median of some rounds."""
    figures = []
    for given in rounds:
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
    given = messages(options.messages * options.rounds)
    rounds = [given[first :: options.rounds] for first in range(options.rounds)]
    library = Library.load([packaged_mappings()], {Format.HL7V2: Hl7Language()})
    reader, checker = Hl7Reader(), Checker.load()
    context = MappingContext(zone="Europe/Paris", source="bench")
    calm_collector()

    def mapped(message: bytes, *, trace: bool = False) -> list[dict[str, object]]:
        root = reader.read([Payload.from_bytes(message)])
        program = library.match(root, Format.HL7V2)
        if program is None:
            raise SystemExit("the shipped mappings do not take the benchmark's messages")
        return [entry.resource for entry in program.run(root, context, trace=trace).entries]

    def complete(message: bytes) -> bytes:
        resources = mapped(message)
        if checker.check_entries(resources, mapped=True):
            raise SystemExit("an entry does not pass the R4 check")
        return dumps(resources)

    import hl7
    from hl7apy.parser import parse_message

    texts = {message: message.decode() for message in given}
    few = [given[: max(10, options.messages // 20)]] * 3
    figures = {
        "read_and_map": per_second(mapped, rounds),
        "read_map_check_serialise": per_second(complete, rounds),
        "read_and_map_with_trace": per_second(lambda message: mapped(message, trace=True), rounds),
        "hl7_parse_only": per_second(lambda message: hl7.parse(texts[message]), rounds),
        "hl7apy_parse_only": per_second(
            lambda message: parse_message(texts[message], find_groups=False), few
        ),
    }
    base = figures["read_and_map"]
    report = {
        "benchmark": "mapping_oru",
        "python": platform.python_version(),
        "messages": options.messages,
        "bytes_mean": round(statistics.mean(len(message) for message in given)),
        "messages_per_second": {name: round(figure, 1) for name, figure in figures.items()},
        "ratio_to_hl7_parse": round(base / figures["hl7_parse_only"], 2),
        "ratio_to_hl7apy_parse": round(base / figures["hl7apy_parse_only"], 1),
        "trace_takes_times": round(base / figures["read_and_map_with_trace"], 2),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
