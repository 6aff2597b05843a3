"""Break things at random for a while and judge what the gateway made of it.

    python -m tests.chaos [--minutes 30] [--store both] [--seed N] [--backlog 100000] [--only NAME …]

Prints the seed first, each fault as it is done, and a report as JSON. Ends with 0 when everything
that was acknowledged is in the record exactly once and in order, and the seeded defects were caught;
with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.defects import DEFECTS, FAULTS, PAUSE
from tests.chaos.house import STORES, house, interpreter
from tests.chaos.nemeses import LONG, NEMESES
from tests.chaos.story import Plan, Report, run

DEFECT_SECONDS = 60


def tell(line: str) -> None:
    """One line for whoever watches."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of faults, for each store")
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--backlog", type=int, default=0, help="messages that wait at the start")
    parser.add_argument(
        "--only", nargs="*", default=(), choices=[each.name for each in NEMESES], metavar="FAULT"
    )
    parser.add_argument("--no-defects", action="store_true", help="leave the seeded defects out")
    options = parser.parse_args()
    tell(f"seed {options.seed}")
    stores = STORES if options.store == "both" else (options.store,)
    plan = Plan(
        options.minutes * 60,
        length=LONG,
        pause=(0.2, 4.0),
        only=options.only,
        backlog=options.backlog,
        messages_each=500,
        settle_seconds=300 + options.backlog / 50,
        tell=tell,
    )
    reports = [_run(store, options.seed, plan) for store in stores]
    wrong = [f"{each.store}: a promise was broken" for each in reports if not each.faultless]
    if not options.no_defects:
        wrong += [
            f"{store}: the defect {defect} was not caught"
            for store in stores
            for defect in DEFECTS
            if not _caught(store, defect, options.seed)
        ]
    print(json.dumps({"runs": [each.shape() for each in reports], "wrong": wrong}, indent=2))
    return 1 if wrong else 0


def _run(store: str, seed: int, plan: Plan) -> Report:
    tell(f"— {store} —")
    with (
        tempfile.TemporaryDirectory(prefix="ecluse-chaos-") as folder,
        house(store, Path(folder), movable_clock=True, lease_seconds=15) as built,
    ):
        return run(built, seed, plan)


def _caught(store: str, defect: str, seed: int) -> bool:
    """Whether the ledger shows the defect."""
    tell(f"— {store} with the defect {defect} —")
    plan = Plan(DEFECT_SECONDS, only=FAULTS, pause=PAUSE, settle_seconds=20)
    with (
        tempfile.TemporaryDirectory(prefix="ecluse-chaos-") as folder,
        house(store, Path(folder), launcher=interpreter("tests.chaos.defects", defect)) as built,
    ):
        verdict = run(built, seed, plan).verdict
    tell(f"lost {verdict.lost}, doubled {verdict.doubled}, out of order {verdict.out_of_order}")
    return not verdict.faultless


if __name__ == "__main__":
    raise SystemExit(main())
