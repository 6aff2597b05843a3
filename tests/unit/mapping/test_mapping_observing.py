"""What an open watch hears of a traced run, and that nobody hears anything without one."""

from __future__ import annotations

from pathlib import Path

from gateway.mapping.observing import Asked, Instance, LookedUp, Readout, Ruled, watching
from gateway.workbench.happenings import gave, instances, rules_in
from tests.unit.mapping.pretend import load, run

BODY = """\
defaults: {invalid: flag, unknown: flag}
entries:
  - resource: Patient
    id: {key: [KEY], authority: worldwide}
    set:
      birthDate: {from: DATE, when: "A = x"}
      maritalStatus: {from: C, table: colours}
"""


def test_reads_conditions_rows_and_results_are_heard_in_order(tmp_path: Path) -> None:
    program = load(tmp_path, BODY)
    with watching() as watch:
        mapped = run(program, {"KEY": "1", "A": "y", "DATE": "2024", "C": "R"}, trace=True)
    [instance] = list(instances(watch.events))
    assert isinstance(instance, Instance)
    assert instance.reference == mapped.entries[0].reference
    assert instance.resource is mapped.entries[0].resource
    birth, marital = list(rules_in(instance))
    assert not gave(birth)
    [asked] = [event for event in birth.events if isinstance(event, Asked)]
    assert (asked.text, asked.fulfilled) == ("A = x", False)
    assert isinstance(asked.events[0], Readout)
    assert gave(marital)
    [looked_up] = [event for event in marital.events if isinstance(event, LookedUp)]
    assert (looked_up.table, looked_up.code) == ("colours", "R")
    assert looked_up.row is not None


def test_without_a_watch_or_a_trace_nothing_is_heard(tmp_path: Path) -> None:
    program = load(tmp_path, BODY)
    message = {"KEY": "1", "A": "x", "DATE": "2024"}
    run(program, message, trace=True)
    with watching() as watch:
        run(program, message)
    assert watch.events == []
    assert watch.complete


def test_a_rule_that_stops_says_with_what(tmp_path: Path) -> None:
    body = BODY.replace("birthDate: {from: DATE", "birthDate: {from: DATE, invalid: drop")
    program = load(tmp_path, body)
    with watching() as watch:
        run(program, {"KEY": "1", "A": "x", "DATE": "never"}, trace=True)
    [instance] = list(instances(watch.events))
    assert instance.reference is None
    [stopped] = [event for event in instance.events if isinstance(event, Ruled) and event.stopped]
    assert stopped.stopped == "Drop"
