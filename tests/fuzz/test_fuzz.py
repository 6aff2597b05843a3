"""The fuzzer: FUZZ_SECONDS for all targets together; a few seconds when that is not set.

``make fuzz`` runs it for five minutes. What fails is printed in base 64, and made small
by Hypothesis where it found it. A target that does not come back is a hang: its stack is
printed and the process ends.
"""

from __future__ import annotations

import base64
import faulthandler
import gc
import os
import sys
import time
from collections.abc import Callable
from random import Random

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.mutation import messages, mutated, seeds_of
from tests.fuzz.targets import TARGETS

SECONDS = float(os.environ.get("FUZZ_SECONDS", "6")) / len(TARGETS)
SLOW_SECONDS = 5.0
HANG_SECONDS = 60
GROWTH_BYTES_MAX = 24 << 20


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def once(target: Callable[[bytes], None], data: bytes) -> None:
    """One input; a failure tells it, and so does a slow one."""
    start = time.perf_counter()
    try:
        target(data)
    except Exception as error:
        told = base64.b64encode(data).decode()
        raise AssertionError(f"{type(error).__name__}: {error}\ninput: {told}") from error
    taken = time.perf_counter() - start
    assert taken < SLOW_SECONDS, f"{taken:.1f} s for {base64.b64encode(data).decode()}"


def at_random(
    target: Callable[[bytes], None], seeds: list[bytes], until: float, chance: Random
) -> int:
    count = 0
    while time.monotonic() < until:
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=sys.__stderr__)
        for _ in range(50):
            once(target, mutated(chance, seeds))
        count += 50
    faulthandler.cancel_dump_traceback_later()
    return count


def with_hypothesis(
    target: Callable[[bytes], None], seeds: list[bytes], until: float, chance: Random
) -> int:
    count = 0
    while time.monotonic() < until:
        faulthandler.dump_traceback_later(HANG_SECONDS * 4, exit=True, file=sys.__stderr__)

        @seed(chance.getrandbits(32))
        @settings(
            max_examples=100, deadline=None, database=None,
            phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(data=messages(seeds))
        def round_of(data: bytes) -> None:
            once(target, data)

        round_of()
        count += 100
    faulthandler.cancel_dump_traceback_later()
    return count


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_crashes_hangs_or_grows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    target, number = TARGETS[name], int(os.environ.get("FUZZ_SEED", time.time_ns() % 1_000_000))
    chance, seeds = Random(number), seeds_of(name)
    begin = time.monotonic()
    # What is read once and kept (grammars, tables, codecs) comes first, then memory is flat.
    warm = at_random(target, seeds, begin + SECONDS * 0.2, chance)
    with_hypothesis(target, seeds, begin + SECONDS * 0.3, chance)
    before = resident()
    count = at_random(target, seeds, begin + SECONDS * 0.65, chance)
    count += with_hypothesis(target, seeds, begin + SECONDS, chance)
    after = resident()
    with capsys.disabled():
        print(
            f"\nfuzz {name}: {warm + count} inputs in {time.monotonic() - begin:.0f} s, seed {number},"
            f" RSS {before / 2**20:.1f} MB at the start, {after / 2**20:.1f} MB at the end"
        )
    assert after - before < GROWTH_BYTES_MAX
