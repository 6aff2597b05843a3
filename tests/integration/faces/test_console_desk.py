"""The dead-letter desk: dry run, replay, discard, repair; each button acts once."""

from __future__ import annotations

import html
import re

import httpx2
import pytest
from sqlalchemy import update

from gateway.deployment.comparing import compare
from gateway.journal import deadletters, deliveries, messages, tables
from gateway.journal.states import MessageState
from gateway.model import Cause, CauseCode, Stage
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House


def hidden(text: str) -> dict[str, str]:
    """The hidden fields of the page's form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))


def bury(house: House, control_id: str) -> int:
    """One more dead letter, of its own."""
    body = hl7.results(control_id, control_id, {"2823-3^K": "4.4"}, ins=hl7.WRONG_INS)
    assert house.send(body) == ["AA"]
    house.wait()
    return house.letter(control_id)


def test_groups_explain_themselves(http: httpx2.Client, house: House) -> None:
    text = http.get("/dead").text
    assert "identity-invalid" in text
    assert "What to do." in text
    group = re.search(r'href="(/dead/groups/[0-9a-f]{16})"', text)
    assert group is not None
    page = http.get(group.group(1)).text
    assert "DEAD0" in page
    assert hl7.FAMILY not in page


def test_a_dry_run_changes_nothing(http: httpx2.Client, house: House) -> None:
    letter = bury(house, "DRY1")
    for what in ("replay", "discard"):
        page = http.get(f"/dead/{what}", params={"ids": str(letter)}).text
        assert "Nothing has been done yet" in page
    assert house.state(house.number("DRY1")) is MessageState.DEAD
    assert house.letter("DRY1") == letter


def test_a_replay_pressed_twice_acts_once(http: httpx2.Client, house: House) -> None:
    letter = bury(house, "TWICE1")
    number = house.number("TWICE1")
    form = hidden(http.get("/dead/replay", params={"ids": str(letter)}).text)
    first = http.post("/dead/replay", data={**form, "reason": "again"}, follow_redirects=False)
    second = http.post("/dead/replay", data={**form, "reason": "again"}, follow_redirects=False)
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert "on its way again" in http.get(first.headers["location"]).text
    house.wait()
    with house.gateway.journal.read() as connection:
        told = [event.what for event in messages.events(connection, number)]
    assert told.count("read-again") == 1
    assert told.count("buried") == 2, "the cause was not removed, so it died again, once"


def test_a_discard_wants_a_reason(http: httpx2.Client, house: House) -> None:
    letter = bury(house, "GONE1")
    form = hidden(http.get("/dead/discard", params={"ids": str(letter)}).text)
    assert http.post("/dead/discard", data=form).status_code == 422
    assert house.state(house.number("GONE1")) is MessageState.DEAD
    done = http.post("/dead/discard", data={**form, "reason": "sent again by the sender"})
    assert done.status_code == 200
    assert house.state(house.number("GONE1")) is MessageState.DISCARDED
    page = http.get(f"/dead/{letter}").text
    assert "sent again by the sender" in page
    assert "by local" in page


@pytest.mark.parametrize(
    "query", [{}, {"ids": "1,x"}, {"ids": "1;2"}, {"ids": "-1"}, {"ids": ",".join("1" * 600)}]
)
def test_a_selection_that_is_none_is_refused(http: httpx2.Client, query: dict[str, str]) -> None:
    assert http.get("/dead/replay", params=query).status_code == 422


def test_a_repair_shows_what_changes_and_goes_as_a_linked_copy(
    http: httpx2.Client, house: House
) -> None:
    letter = bury(house, "FIX1")
    number = house.number("FIX1")
    page = http.get(f"/dead/{letter}/repair").text
    form = hidden(page)
    original = hl7.results("FIX1", "FIX1", {"2823-3^K": "4.4"}, ins=hl7.WRONG_INS).decode()
    # A text field holds line feeds; a browser sends CRLF.
    edited = original.replace(hl7.WRONG_INS, hl7.INS).replace("\r", "\r\n")
    preview = http.post(
        f"/dead/{letter}/repair", data={**form, "text": edited, "action": "preview"}
    )
    assert preview.status_code == 200
    assert "It would be read" in preview.text
    assert 'class="removed"' in preview.text
    assert house.state(number) is MessageState.DEAD, "a preview does nothing"
    wrong = original.replace(hl7.WRONG_INS, hl7.WRONG_INS[:-1] + "9")
    tried = {**form, "text": wrong, "action": "preview"}
    still = http.post(f"/dead/{letter}/repair", data=tried)
    assert still.status_code == 422
    assert "It would still fail" in still.text
    action = {**form, "text": edited, "action": "replay", "reason": "INS confirmed by phone"}
    done = http.post(f"/dead/{letter}/repair", data=action, follow_redirects=False)
    again = http.post(f"/dead/{letter}/repair", data=action, follow_redirects=False)
    assert done.status_code == again.status_code == 303
    assert done.headers["location"] == again.headers["location"]
    house.wait()
    assert house.state(number) is MessageState.REPLACED
    with house.gateway.journal.read() as connection:
        found = deadletters.get(connection, letter)
        assert found is not None
        assert found.child_message_id is not None
        child = messages.get(connection, found.child_message_id)
        parent = messages.get(connection, number)
    assert child is not None
    assert parent is not None
    assert child.parent_id == number
    assert child.body == original.replace(hl7.WRONG_INS, hl7.INS).encode()
    assert parent.body == original.encode()
    assert child.state is MessageState.DELIVERED
    assert "Repaired by" in http.get(f"/messages/{number}").text
    assert "Repairs" in http.get(f"/messages/{child.id}").text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text, "Nothing has been changed"),
        (lambda text: text.replace("MSH", "XSH"), "Not readable"),
    ],
)
def test_a_repair_that_cannot_go_says_why(
    http: httpx2.Client, house: House, change: object, said: str
) -> None:
    letter = house.letter("DEAD0")
    form = hidden(http.get(f"/dead/{letter}/repair").text)
    text = hl7.results("DEAD0", "D0", {"2823-3^Potassium": "4.4"}, ins=hl7.WRONG_INS).decode()
    assert callable(change)
    data = {**form, "text": change(text), "action": "replay", "reason": "a reason"}
    answer = http.post(f"/dead/{letter}/repair", data=data)
    assert answer.status_code == 422
    assert said in answer.text
    assert house.state(house.number("DEAD0")) is MessageState.DEAD


def test_a_repair_wants_a_reason(http: httpx2.Client, house: House) -> None:
    letter = house.letter("DEAD0")
    form = hidden(http.get(f"/dead/{letter}/repair").text)
    text = hl7.results("DEAD0", "D0", {"2823-3^Potassium": "5.4"}).decode()
    answer = http.post(f"/dead/{letter}/repair", data={**form, "text": text, "action": "replay"})
    assert answer.status_code == 422
    assert "Say why" in answer.text


def test_a_stale_repair_is_a_conflict(http: httpx2.Client, house: House) -> None:
    """Two people open it; one settles it; the other's edit must not overwrite."""
    letter = bury(house, "STALE1")
    mine = hidden(http.get(f"/dead/{letter}/repair").text)
    theirs = hidden(http.get("/dead/discard", params={"ids": str(letter)}).text)
    assert http.post("/dead/discard", data={**theirs, "reason": "not ours"}).status_code == 200
    text = hl7.results("STALE1", "S", {"2823-3^K": "4.4"}).decode()
    data = {**mine, "text": text, "action": "replay", "reason": "mine"}
    answer = http.post(f"/dead/{letter}/repair", data=data)
    assert answer.status_code == 409
    assert house.state(house.number("STALE1")) is MessageState.DISCARDED


def test_another_messages_text_is_a_conflict(http: httpx2.Client, house: House) -> None:
    letter = house.letter("DEAD1")
    form = hidden(http.get(f"/dead/{letter}/repair").text)
    data = {**form, "base": "0" * 64, "text": "MSH|", "action": "replay", "reason": "a reason"}
    assert http.post(f"/dead/{letter}/repair", data=data).status_code == 409


def test_a_page_of_another_site_cannot_press(http: httpx2.Client, house: House) -> None:
    letter = house.letter("DEAD2")
    data = {"ids": str(letter), "key": "0123456789abcdef"}
    headers = {"Origin": "https://evil.example"}
    assert http.post("/dead/replay", data=data, headers=headers).status_code == 403
    assert house.letter("DEAD2") == letter


def test_unmapped_messages_are_read_again_on_demand(http: httpx2.Client, house: House) -> None:
    unknown = hl7.results("UNMAPPED1", "U1", {"2823-3^K": "4"}).replace(
        b"ORU^R01^ORU_R01", b"DFT^P03^DFT_P03"
    )
    if house.send(unknown) != ["AA"]:
        pytest.skip("this source refuses financial messages at the door")
    eventually(lambda: house.state(house.number("UNMAPPED1")) is MessageState.UNMAPPED, timeout=10)
    assert "Read all of them again" in http.get("/held").text
    answer = http.post("/held/read-again")
    assert "will be read again" in answer.text
    eventually(
        lambda: house.settled() and house.state(house.number("UNMAPPED1")) is MessageState.UNMAPPED,
        timeout=10,
    )


def test_the_wait_of_a_held_message_is_ended_with_a_reason(
    http: httpx2.Client, house: House
) -> None:
    body = hl7.results("WAIT1", "WAIT1", {"2823-3^K": "4.4"}, ins="", ipp="IPPNEVER")
    assert house.send(body) == ["AA"]
    eventually(lambda: house.state(house.number("WAIT1")) is MessageState.HELD, timeout=30)
    number = house.number("WAIT1")
    assert "End the wait" in http.get(f"/messages/{number}").text
    assert http.post(f"/messages/{number}/bury", data={"reason": " "}).status_code == 200
    assert house.state(number) is MessageState.HELD
    page = http.post(f"/messages/{number}/bury", data={"reason": "mistyped at the ward"}).text
    assert house.state(number) is MessageState.DEAD
    assert "identity-awaited" in page
    assert "mistyped at the ward" in page
    assert "ended the wait" in http.get("/dead/audit").text
    assert "End the wait" not in http.get(f"/messages/{number}").text


def refused_delivery(house: House, control_id: str) -> int:
    """A dead letter of a delivery, as a destination leaves one that refuses it."""
    assert house.send(hl7.results(control_id, control_id, {"2823-3^K": "4.4"})) == ["AA"]
    house.wait()
    number = house.number(control_id)
    refused = Cause(code=CauseCode.DESTINATION_REFUSED, detail="the status is not taken")
    with house.gateway.journal.write() as connection:
        (sent,) = deliveries.of_message(connection, number)
        # The record takes everything: the delivery is put back to where it was before that.
        connection.execute(
            update(tables.message).where(tables.message.c.id == number).values(state="routed")
        )
        connection.execute(
            update(tables.delivery).where(tables.delivery.c.id == sent.id).values(state="pending")
        )
        return deadletters.bury(
            connection, number, Stage.DELIVER, refused, delivery_id=sent.id, attempts=1
        )


def test_an_entry_is_edited_and_goes_as_a_linked_copy(http: httpx2.Client, house: House) -> None:
    letter = refused_delivery(house, "ENTRY1")
    number = house.number("ENTRY1")
    shown = http.get(f"/dead/{letter}").text
    assert "Open the entries" in shown
    assert hl7.FAMILY not in shown
    page = http.get(f"/dead/{letter}/entries").text
    reference = re.search(r'entries\?reference=(Observation/[0-9a-f-]+)"', page) or re.search(
        r'name="reference" value="(Observation/[0-9a-f-]+)"', page
    )
    assert reference is not None
    page = http.get(f"/dead/{letter}/entries", params={"reference": reference.group(1)}).text
    form = hidden(page)
    text = html.unescape(re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)[0])
    where = f"/dead/{letter}/entries"

    def press(written: str, **fields: str) -> httpx2.Response:
        data = {**form, "text": written, "action": "preview", **fields}
        return http.post(where, data=data, follow_redirects=False)

    amended = text.replace('"status": "final"', '"status": "amended"')
    assert amended != text
    for written, said in (
        (text, "Nothing has been changed"),
        ("{", "It is no JSON"),
        (amended.replace('"amended"', '"mended"'), "It is not valid FHIR R4"),
        (amended.replace('"id": "', '"id": "x', 1), "keeps its resourcetype and its id"),
    ):
        answer = press(written)
        assert answer.status_code == 422
        assert said in html.unescape(answer.text)
    preview = press(amended)
    assert preview.status_code == 200
    assert '<code class="added">amended</code>' in preview.text
    assert press(amended, action="replay").status_code == 422, "a reason is wanted"
    assert press(amended, action="replay", reason="why", base="0" * 64).status_code == 409
    assert house.state(number) is MessageState.DEAD
    done = press(amended, action="replay", reason="the ward said so")
    again = press(amended, action="replay", reason="the ward said so")
    assert done.status_code == again.status_code == 303
    assert done.headers["location"] == again.headers["location"]
    house.wait()
    with house.gateway.journal.read() as connection:
        found = deadletters.get(connection, letter)
        assert found is not None
        assert found.child_message_id is not None
        child = messages.get(connection, found.child_message_id)
        kind, _, name = reference.group(1).partition("/")
        stored = house.gateway.record.read(connection, kind, name)
    assert child is not None
    assert (child.parent_id, child.state) == (number, MessageState.DELIVERED)
    assert stored is not None
    assert stored.resource["status"] == "amended"
    assert house.state(number) is MessageState.REPLACED
    changed = http.get(f"/dead/{letter}/changes").text
    assert '<code class="removed">final</code>' in changed
    assert '<code class="added">amended</code>' in changed
    told = http.get(f"/dead/{letter}").text
    assert "edited entries of" in told
    assert "the ward said so" in told
    assert http.get(where).status_code == 409
    # A reading anew leaves alone what a person wrote.
    compared = compare(house.gateway.journal, house.gateway.mappings.now, child)
    assert compared.cause is not None
    assert "a person corrected its entries" in compared.cause.detail


def test_entries_over_rest(http: httpx2.Client, house: House) -> None:
    letter = refused_delivery(house, "ENTRY2")
    where = f"/api/v1/dead-letters/{letter}/entries"
    given = http.get(where).json()
    observation = next(e for e in given["entries"] if e["resourceType"] == "Observation")
    body = [{**observation, "status": "amended"}]
    fields = {"base": given["base"], "reason": "asked", "key": "entry-2"}
    assert http.post(where, json=body, params={**fields, "base": "1"}).status_code == 409
    assert http.post(where, json={"a": 1}, params=fields).status_code == 422
    assert http.post(where, json=body, params={**fields, "reason": ""}).status_code == 422
    done = http.post(where, json=body, params=fields).json()
    again = http.post(where, json=body, params=fields).json()
    assert done["counts"] == {"repaired": 1}
    assert (again["again"], again["items"]) == (True, done["items"])
    house.wait()
    assert http.get("/api/v1/dead-letters/99999999/entries").status_code == 404
    unread = house.letter("DEAD1")
    assert http.get(f"/api/v1/dead-letters/{unread}/entries").status_code == 422
