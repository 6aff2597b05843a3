"""The histogram that counts many at once says what the client library's own says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest

from gateway.durations import Durations

BOUNDS = (0.0009765625, 0.0078125, 0.125, 1.0, 64.0)
# Binary fractions, so that the order of summation does not show.
seconds = st.integers(min_value=0, max_value=1 << 16).map(lambda n: n / 512)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["intake", "deliver"]),
            st.sampled_from([*BOUNDS, 0.0]) | seconds,
            st.integers(min_value=1, max_value=5),
        ),
        max_size=20,
    )
)
def test_it_is_exposed_as_the_librarys_own(observed: list[tuple[str, float, int]]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("took_seconds", "How long.", "stage", BOUNDS, ours)
    histogram = Histogram("took_seconds", "How long.", ["stage"], buckets=BOUNDS, registry=theirs)
    for stage, took, count in observed:
        durations.labels(stage).observe(took, count)
        for _ in range(count):
            histogram.labels(stage).observe(took)
    assert lines(ours) == lines(theirs)


def lines(registry: CollectorRegistry) -> dict[str, float]:
    exposed = [line.rsplit(" ", 1) for line in generate_latest(registry).decode().splitlines()]
    return {name: round(float(value), 6) for name, value in exposed if not name.startswith("#")} | {
        name: 0.0 for name, _ in exposed if name.startswith("# TYPE")
    }
