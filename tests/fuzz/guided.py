"""The same targets, guided by coverage: Atheris changes an input and keeps what reaches new code.

    python -m tests.fuzz.guided TARGET SECONDS

``make fuzz-guided`` runs each in turn. Atheris is no dependency of the tests: it is made for few
versions of Python and few machines. An input that fails is written to ``build/fuzz/``; so is what
was found to be of interest, with which the next run begins.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found,unused-ignore]

with atheris.instrument_imports(
    include=["adapters.hl7", "adapters.ebrim", "adapters.xdm", "adapters.xds", "adapters.cda"]
):
    from tests.fuzz.targets import TARGETS

from tests.conftest import REPOSITORY
from tests.fuzz.mutation import seeds_of


def main() -> None:
    """Run one target; libFuzzer ends the process."""
    name, seconds = sys.argv[1], int(float(sys.argv[2]))
    home = REPOSITORY / "build" / "fuzz"
    found = home / name
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds_of(name)):
        (found / f"seed-{number:04d}").write_bytes(seed)
    target = TARGETS[name]
    atheris.Setup(
        [
            sys.argv[0], str(found), f"-max_total_time={seconds}", f"-artifact_prefix={home}/{name}-",
            "-max_len=65536", "-timeout=60", "-rss_limit_mb=1024", "-print_final_stats=1",
        ],
        lambda data: target(bytes(data)),
    )  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
