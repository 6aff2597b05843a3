"""Does the R4 checker agree with the official FHIR validator?

    python -m benchmarks.r4_agreement VALIDATOR... [--valid 400] [--mutants 1200] [--report FILE]

VALIDATOR is the command that validates (see ``make validate-r4``, which builds it).
Takes resources that the shipped mappings make of the corpora, and mutants of them
(``tests/unit/r4/mutations.py``), the same ones at every run, and compares the two
verdicts. JSON goes to stdout; ``--report`` writes every disagreement.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.r4_corpus import entries
from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps
from tests.unit.r4.mutations import mutants
from tests.unit.r4.resources import everything

_EXPLAINED: tuple[tuple[str, str, str], ...] = (
    ("official", r"Unknown code '|Terminology_TX_NoValid|TX_Code_Unknown",
     "a code that its code system has not (no required binding)"),
    ("official", r"codes = urn:local#|codes = relative#",
     "one coding of several is of a system that the validator does not know"),
    ("official", r"Extension_EXT_Version_Invalid",
     "an extension of R5 used in R4, whose definition the validator has not offline"),
    ("official", r"\| exception \|", "the validator itself failed"),
    ("ours", r"\.reference: format ", "a reference that names no R4 type, or is no URI"),
    ("ours", r"\.reference: target ", "the target type as the relative reference names it"),
    ("ours", r"\.type: target ", "the target type as Reference.type names it, without a reference"),
    ("ours", r"\.coding\[\d+\]\.system: format not an absolute",
     "a relative system in a CodeableConcept"),
    ("ours", r"\(ele-1\)", "an element with an id and nothing else"),
    ("ours", r": empty an empty |: format not written as R4 writes a base64Binary",
     "empty strings; text that is no base64"),
)  # fmt: skip
"""Who finds it, what the finding says, and the class of disagreement; see docs/r4-checker.md."""

_SEED = 20240306
_TIMEOUT = 1_800


@dataclass(slots=True)
class Case:
    """One resource: which fault was put into it, and what each of the two found."""

    fault: str
    path: str
    resource: dict[str, Any]
    ours: list[str] = field(default_factory=list)
    official: list[str] = field(default_factory=list)


def cases(valid: int, mutated: int) -> list[Case]:
    """Resources as they are, and with one fault each; spread over types and faults."""
    chance = random.Random(_SEED)
    by_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, made in entries():
        for resource in made:
            by_type[str(resource["resourceType"])].append(resource)
    sound = everything()
    for _, made_of_type in sorted(by_type.items()):
        # No type has more than a quarter, so that the many Observations leave room.
        share = min(len(made_of_type), max(1, valid // 4))
        sound += chance.sample(made_of_type, share)
    sound = sound[: len(everything())] + chance.sample(
        sound[len(everything()) :], min(valid, len(sound) - len(everything()))
    )
    chosen = [Case("", resource["resourceType"], resource) for resource in sound]
    by_fault: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for resource in everything() + chance.sample(sound, min(60, len(sound))):
        for mutant in mutants(resource):
            case = Case(mutant.fault, mutant.path, mutant.resource)
            by_fault[mutant.fault, resource["resourceType"]].append(case)
    each = max(1, mutated // len(by_fault))
    for _, made_of_fault in sorted(by_fault.items()):
        chosen += chance.sample(made_of_fault, min(each, len(made_of_fault)))
    return chosen


def ask_official(command: Sequence[str], chosen: Sequence[Case]) -> None:
    """Let the official validator judge every case."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    into = process.stdin

    def feed() -> None:
        for number, case in enumerate(chosen):
            into.write(b"%d\t%s\n" % (number, dumps(case.resource)))
        into.close()

    feeder = threading.Thread(target=feed, daemon=True)
    watch = threading.Timer(_TIMEOUT, process.kill)
    watch.start()
    feeder.start()
    done = 0
    for line in process.stdout:
        number, *fields = line.decode().rstrip("\n").split("\t")
        if fields == ["done"]:
            done += 1
        else:
            chosen[int(number)].official.append(" | ".join(fields))
    watch.cancel()
    if process.wait() != 0 or done != len(chosen):
        raise SystemExit(f"the validator judged {done} of {len(chosen)} resources")


def explain(case: Case) -> str:
    """The class of a disagreement: every finding is of an explained class, else «unexplained»."""
    side, findings = ("ours", case.ours) if case.ours else ("official", case.official)
    classes = []
    for finding in findings:
        known = [name for who, form, name in _EXPLAINED if who == side and re.search(form, finding)]
        classes.append(known[-1] if known else "unexplained")
    return f"only {side}: " + ("unexplained" if "unexplained" in classes else classes[0])


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--valid", type=int, default=400)
    parser.add_argument("--mutants", type=int, default=1_200)
    parser.add_argument("--report", type=Path)
    parser.add_argument("validator", nargs="+")
    options = parser.parse_args()
    chosen = cases(options.valid, options.mutants)
    print(f"{len(chosen)} resources go to the official validator", file=sys.stderr)
    ask_official(options.validator, chosen)
    checker = Checker.load()
    for case in chosen:
        case.ours = [str(problem) for problem in checker.check(case.resource)]
    verdicts: dict[str, Counter[str]] = {"as mapped": Counter(), "mutated": Counter()}
    differing: Counter[str] = Counter()
    harmless: Counter[str] = Counter()
    for case in chosen:
        counter = verdicts["mutated" if case.fault else "as mapped"]
        if bool(case.ours) == bool(case.official):
            counter["both invalid" if case.ours else "both valid"] += 1
            if case.fault and not case.ours:
                harmless[case.fault] += 1
        else:
            counter["only ours" if case.ours else "only official"] += 1
            differing[explain(case)] += 1
    if options.report:
        with options.report.open("w", encoding="utf-8") as report:
            for case in chosen:
                if bool(case.ours) != bool(case.official):
                    line = {"fault": case.fault, "path": case.path, "ours": case.ours[:3],
                            "official": case.official[:3],
                            "resource": json.loads(dumps(case.resource))}  # fmt: skip
                    report.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(json.dumps({"resources": len(chosen), "verdicts": verdicts, "differing": differing,
                      "mutants valid for both": harmless},
                     indent=2, ensure_ascii=False))  # fmt: skip
    if any(name.endswith("unexplained") for name in differing):
        raise SystemExit("some disagreements are of no explained class; --report names them")


if __name__ == "__main__":
    main()
