"""Edits make linked children: of the message, or of what the mapping made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from deadletter import editing, replay, triage
from deadletter.notes import NotThere, assign, write_note
from deadletter.selection import Report, Verdict
from gateway.journal import deadletters, deliveries, desk_actions, messages
from gateway.journal.entries import EDITED
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import DeadLetterFilter
from gateway.model import Cause, CauseCode, Entry, Payload, Receipt, Refused
from tests.integration.pipeline.rig import Rig, ToyRemote, national

WHO = {"patient": [national(1)]}
NEVER = Cause(code=CauseCode.DESTINATION_REFUSED, detail="422")


def fine(_entries: Sequence[Entry]) -> str:
    return ""


def dead(rig: Rig, fact: str = "a", **content: Any) -> Receipt:
    for destination in rig.destinations:
        destination.answers[fact] = [Refused(cause=NEVER)]
    receipt = rig.send({**WHO, "facts": [fact], **content})
    rig.settle()
    return receipt


def opened(rig: Rig) -> tuple[int, editing.EditableEntries]:
    letter = triage.letters(rig.journal)[0]
    with rig.journal.read() as connection:
        return letter.id, editing.open_entries(connection, letter.id)


def renamed(given: editing.EditableEntries, to: str) -> dict[str, dict[str, Any]]:
    observation = next(
        each for each in given.entries if each.resource["resourceType"] == "Observation"
    )
    return {observation.reference: {**observation.resource, "code": {"text": to}}}


def edit(rig: Rig, letter: int, given: editing.EditableEntries, **options: Any) -> Report:
    fields: dict[str, Any] = {
        "base": given.base, "actor": "anne", "key": "k", "reason": "the code was wrong",
        "check": fine, **options,
    }  # fmt: skip
    return editing.edit_entries(rig.journal, letter, renamed(given, "b"), **fields)


def test_edited_entries_go_as_a_linked_child(rig: Rig) -> None:
    receipt = dead(rig)
    letter, given = opened(rig)
    report = edit(rig, letter, given)
    assert report.counts == {Verdict.REPAIRED: 1}
    again = edit(rig, letter, given)
    assert again.again
    assert again.items == report.items
    rig.settle()
    child_id = report.items[0].child
    assert child_id is not None
    with rig.journal.read() as connection:
        child = messages.get(connection, child_id)
        parent = messages.get(connection, receipt.message_id)
        before = messages.normalised(connection, receipt.message_id)
        settled = deadletters.get(connection, letter)
        (old,) = deliveries.of_message(connection, receipt.message_id)
        told = desk_actions.page(connection, dead_letter_id=letter)
        counted = sum(line.accepted for line in messages.ledger(connection).values())
    assert child is not None
    assert parent is not None
    assert (child.parent_id, child.state, child.body) == (
        receipt.message_id, MessageState.DELIVERED, parent.body,
    )  # fmt: skip
    assert EDITED in child.attributes
    assert parent.state is MessageState.REPLACED
    assert old.state is DeliveryState.DISCARDED
    assert before is not None
    assert before.entries == given.entries, "the original keeps its own"
    assert rig.facts() == ["b"]
    assert settled is not None
    assert settled.child_message_id == child_id
    assert [(each.what.value, each.actor, each.reason) for each in told] == [
        ("edit-entry", "anne", "the code was wrong")
    ]
    assert counted == 1


def test_a_destination_that_has_the_original_keeps_it(make_rig: Callable[..., Rig]) -> None:
    one, two = ToyRemote("one"), ToyRemote("two")
    rig = make_rig(destinations=[one, two])
    two.answers["a"] = [Refused(cause=NEVER)]
    rig.send({**WHO, "facts": ["a"]})
    rig.settle()
    letter, given = opened(rig)
    edit(rig, letter, given)
    rig.settle()
    assert [fact for _, fact in one.order] == ["a"]
    assert [fact for _, fact in two.order] == ["b"]


def test_where_a_person_discarded_it_an_edited_copy_does_not_go(
    make_rig: Callable[..., Rig],
) -> None:
    one, two = ToyRemote("one"), ToyRemote("two")
    rig = make_rig(destinations=[one, two])
    dead(rig)
    with rig.journal.read() as connection:
        (to_one,) = deadletters.page(connection, DeadLetterFilter(destination="one"))
        (to_two,) = deadletters.page(connection, DeadLetterFilter(destination="two"))
        given = editing.open_entries(connection, to_two.id)
    wanted = DeadLetterFilter(ids=(to_one.id,))
    replay.discard(rig.journal, wanted, actor="anne", key="d", reason="they do not want it")
    edit(rig, to_two.id, given)
    rig.settle()
    assert [fact for _, fact in two.order] == ["b"]
    assert one.order == []


def test_a_stale_edit_changes_nothing(rig: Rig) -> None:
    receipt = dead(rig)
    letter, given = opened(rig)
    with pytest.raises(editing.Stale):
        edit(rig, letter, given, base="0" * 64)
    replay.discard(rig.journal, DeadLetterFilter(), actor="bob", key="d", reason="not ours")
    with pytest.raises(editing.Stale):
        edit(rig, letter, given)
    assert rig.state(receipt) is MessageState.DISCARDED


def test_a_stale_edit_of_the_message_changes_nothing(rig: Rig) -> None:
    receipt = dead(rig)
    letter = triage.letters(rig.journal)[0].id
    report = replay.repair(
        rig.journal, letter, Payload.from_bytes(b"{}"), actor="anne", key="k", reason="why",
        base="0" * 64,
    )  # fmt: skip
    assert report.counts == {Verdict.GONE: 1}
    assert rig.state(receipt) is MessageState.DEAD


def test_an_edit_that_is_none_is_refused(rig: Rig) -> None:
    dead(rig)
    letter, given = opened(rig)
    reference, resource = next(iter(renamed(given, "b").items()))
    for changes, said in (
        ({reference: {**resource, "id": "other"}}, "keeps its resourceType and its id"),
        ({"Observation/none": {"resourceType": "Observation", "id": "none"}}, "no entry"),
        ({reference: dict(next(e for e in given.entries if e.reference == reference).resource)},
         "nothing has been changed"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            editing.edit_entries(
                rig.journal, letter, changes, base=given.base, actor="a", key="k", reason="why",
                check=fine,
            )  # fmt: skip
    with pytest.raises(ValueError, match="says why"):
        edit(rig, letter, given, reason=" ")
    with pytest.raises(ValueError, match="not a code"):
        edit(rig, letter, given, check=lambda _entries: "Observation.code: not a code")
    assert triage.count(rig.journal) == 1


def test_what_was_never_read_has_no_entries(rig: Rig) -> None:
    rig.send({**WHO, "facts": ["a"], "broken": True})
    rig.settle()
    letter = triage.letters(rig.journal)[0].id
    with rig.journal.read() as connection:
        with pytest.raises(editing.NothingToEdit):
            editing.open_entries(connection, letter)
        with pytest.raises(LookupError):
            editing.open_entries(connection, 999)


def test_notes_and_names_stay(rig: Rig) -> None:
    dead(rig)
    found = triage.letters(rig.journal)[0]
    assign(rig.journal, "anne", actor="bob", group=found.fingerprint)
    assign(rig.journal, "carl", actor="bob", ids=[found.id])
    write_note(rig.journal, "called them", actor="bob", dead_letter_id=found.id)
    write_note(rig.journal, "all of them", actor="bob", group=found.fingerprint)
    for fault in (
        lambda: write_note(rig.journal, "x", actor="bob", group="none"),
        lambda: assign(rig.journal, "x", actor="bob", ids=[999]),
    ):
        with pytest.raises(NotThere):
            fault()
    with pytest.raises(ValueError):
        write_note(rig.journal, " ", actor="bob", group=found.fingerprint)
    (group,) = triage.groups(rig.journal)
    assert group.letters.assignee == "anne"
    wanted = DeadLetterFilter(assignee="carl")
    assert [each.id for each in triage.letters(rig.journal, wanted)] == [found.id]
    assert triage.letters(rig.journal, DeadLetterFilter(assignee="anne")) == []
    assign(rig.journal, "", actor="bob", ids=[found.id])
    assert len(triage.letters(rig.journal, DeadLetterFilter(assignee="anne"))) == 1
    with rig.journal.read() as connection:
        told = desk_actions.page(connection, dead_letter_id=found.id, fingerprint=found.fingerprint)
        assert desk_actions.notes(connection, [found.fingerprint]) == {found.fingerprint: 2}
    assert [each.what.value for each in told] == ["assign", "note", "note", "assign", "assign"]
    assign(rig.journal, "", actor="bob", group=found.fingerprint)
    assert triage.groups(rig.journal)[0].letters.assignee == ""


def test_an_unresolved_letter_never_expires(rig: Rig) -> None:
    """Whatever the desk's housekeeping forgets, it is no dead letter and no decision."""
    from gateway.journal import letter_counts
    from tests.integration.pipeline.rig import HeldClock

    dead(rig)
    found = triage.letters(rig.journal)[0]
    write_note(rig.journal, "kept", actor="bob", dead_letter_id=found.id)
    assert isinstance(rig.clock, HeldClock)
    rig.clock.forward(days=4_000)
    with rig.journal.write() as connection:
        assert letter_counts.forget_old_hours(connection, rig.clock()) == 1
    (group,) = triage.groups(rig.journal)
    assert group.letters.count == 1
    assert sum(group.letters.trend) == 0
    assert triage.letters(rig.journal) == [found]
    told = triage.life_of_letter(rig.journal, found.id)
    assert told is not None
    assert told.normalised is not None
    assert messages.payload(rig.journal, told.message).read()
