"""Mappings are deployed into a running gateway, taken back, and followed by the messages."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.cli.output import Code
from gateway.deployment.files import FileSet, MappingFolders
from gateway.deployment.unmapped import UnmappedSweep
from gateway.journal import messages
from gateway.journal.reprocessing import JobState
from gateway.journal.states import MessageState
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.integration.faces import sites
from tests.integration.faces.house import House, running_house

# Each deployment checks every mapping that a table changes: seconds of a slow machine.
pytestmark = pytest.mark.timeout(300)
API = "/api/v1/mappings"
POTASSIUM, GLUCOSE = "K^Potassium", "GLU^Glucose"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    folder = sites.write_site(tmp_path)
    with running_house(tmp_path, more=sites.configuration(folder)) as made:
        yield made


def table(house: House) -> Path:
    return site(house) / "terminology" / "analyses.yaml"


def site(house: House) -> Path:
    assert house.settings.mappings.sites is not None
    return house.settings.mappings.sites / "chu"


def add(house: House, row: str) -> None:
    with table(house).open("a", encoding="utf-8") as stream:
        stream.write(row)


def command(house: House, *words: str) -> int:
    return main(["mapping", *words, "--config", str(house.configuration)])


def packed(house: House) -> bytes:
    return FileSet.read(MappingFolders.of(house.settings.mappings)).pack()


def post(house: House, path: str, status: int = 200, **given: Any) -> Any:
    with house.client() as http:
        answer = http.post(f"{API}{path}", timeout=120, **given)
    assert answer.status_code == status, answer.text
    return answer.json()


def get(house: House, path: str) -> Any:
    with house.client() as http:
        return http.get(f"{API}{path}").raise_for_status().json()


def codes(house: House, control_id: str) -> list[list[str]]:
    """The codes of each current Observation that a message stated."""
    with house.gateway.journal.read() as connection:
        kept = messages.normalised(connection, house.number(control_id))
        assert kept is not None
        found = []
        for entry in kept.entries:
            kind, _, name = entry.reference.partition("/")
            if kind == "Observation":
                stored = house.gateway.record.read(connection, kind, name)
                assert stored is not None
                found.append([each["code"] for each in stored.resource["code"]["coding"]])
    return found


def history(house: House, control_id: str) -> list[int]:
    """How many versions each Observation of a message has."""
    with house.gateway.journal.read() as connection:
        kept = messages.normalised(connection, house.number(control_id))
        assert kept is not None
        return [
            len(house.gateway.record.history(connection, "Observation", each.resource["id"]))
            for each in kept.entries
            if each.resource["resourceType"] == "Observation"
        ]


def done(house: House, job: int) -> Any:
    """The job at its end."""
    eventually(lambda: get(house, f"/reprocessing/{job}")["state"] == "done", timeout=60)
    house.wait()
    return get(house, f"/reprocessing/{job}")


def test_an_engineers_day_by_command(
    house: House, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    house.send(hl7.admission("A1"), hl7.results("R1", "O1", {GLUCOSE: "5.0", POTASSIUM: "4.1"}))
    house.wait()
    assert codes(house, "R1") == [["2345-7", "GLU"], ["K"]]

    # A wrong row is refused with its place in the engineer's own file, and nothing changes.
    good = table(house).read_text(encoding="utf-8")
    add(house, sites.WRONG)
    assert command(house, "deploy", "--reason", "potassium") == Code.FINDINGS
    said = capsys.readouterr().err
    assert f"{table(house)}:8:7 unknown-key" in said
    assert get(house, "")["version"] == 0

    table(house).write_text(good + sites.ROW, encoding="utf-8")
    assert command(house, "deploy", "--dry-run") == 0
    assert "~ sites/chu/terminology/analyses.yaml" in capsys.readouterr().out
    assert command(house, "deploy") == Code.FAILED, "without a reason"
    assert command(house, "deploy", "--reason", "potassium is known now", "--expected", "0") == 0
    assert "Version 2 is in force, in the place of 1" in capsys.readouterr().err
    house.send(hl7.results("R2", "O2", {POTASSIUM: "4.2"}))
    house.wait()
    assert codes(house, "R2") == [["2823-3", "K"]]
    assert codes(house, "R1")[1] == ["K"], "what is in the record stays as it is"

    # The difference first, then the job.
    words = ["reprocess", "--source", "lab", "--type", "ORU^R01"]
    assert command(house, *words, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["changed"] == 1
    assert (told["counts"]["facts_changed"], told["counts"]["facts_vanished"]) == (1, 0)
    (message,) = told["messages"]
    paths = [each["path"] for each in message["changed"][0]["elements"]]
    assert all(path.startswith("code.") for path in paths)
    assert command(house, *words, "--reason", "as above", "--key", "day", "--json") == 0
    job = json.loads(capsys.readouterr().out)["id"]
    assert command(house, *words, "--reason", "as above", "--key", "day", "--json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == job, "the same press, the same job"
    counts = done(house, job)["counts"]
    assert (counts["examined"], counts["changed"], counts["unchanged"]) == (2, 1, 1)
    assert codes(house, "R1") == [["2345-7", "GLU"], ["2823-3", "K"]]
    assert history(house, "R1") == [1, 2], "what is unchanged is not touched"
    assert command(house, "reprocessing", "list") == 0
    assert "as above" in capsys.readouterr().out

    # Taken back, and the record follows when it is told to.
    assert command(house, "rollback", "--reason", "it was the other potassium") == 0
    assert get(house, "")["version"] == 1
    assert command(house, *words, "--reason", "back", "--json") == 0
    capsys_out = json.loads(capsys.readouterr().out)
    done(house, capsys_out["id"])
    assert codes(house, "R1") == [["2345-7", "GLU"], ["K"]]
    assert command(house, "versions") == 0
    listed = capsys.readouterr().out
    assert "it was the other potassium" in listed
    message = tmp_path / "one.hl7"
    message.write_bytes(hl7.results("R9", "O9", {POTASSIUM: "4.1"}))
    words = ["diff", str(message), "--json", "--source", "lab"]
    assert command(house, *words, "--from", "1", "--to", "2") == 0
    told = json.loads(capsys.readouterr().out)
    assert "2823-3" in json.dumps(told["differences"])
    assert command(house, *words, "--to", "1", "--exit-code") == 0, "version 1 is in force"
    capsys.readouterr()
    assert command(house, *words, "--to", "7") == Code.FAILED
    assert "no versions are called 7" in capsys.readouterr().err
    assert command(house, "export", "2", str(tmp_path / "out")) == 0
    exported = tmp_path / "out" / "sites" / "chu" / "terminology" / "analyses.yaml"
    assert exported.read_text(encoding="utf-8") == good + sites.ROW


def test_two_deployments_at_once_and_one_wins(house: House) -> None:
    first = packed(house)
    answers: list[int] = []

    def deploy(row: str) -> None:
        files = FileSet.unpack(first)
        name = "sites/chu/terminology/analyses.yaml"
        body = files.with_files({name: files.files[name] + row.encode()}).pack()
        with house.client() as http:
            given = {"reason": "at the same time", "expected": "0"}
            answers.append(
                http.post(f"{API}/deploy", content=body, params=given, timeout=120).status_code
            )

    threads = [threading.Thread(target=deploy, args=[f"  X{number}: X\n"]) for number in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert sorted(answers) == [200, 409, 409]
    told = get(house, "/versions")
    assert [each["action"] for each in told["deployments"]] == ["deploy", "start"]
    conflict = post(house, "/rollback", 409, json={"reason": "too late", "expected": 1})
    assert conflict["current"] == 2


def test_what_is_deployed_survives_a_restart_and_old_files_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sites.write_site(tmp_path)
    with running_house(tmp_path, more=sites.configuration(folder)) as house:
        for number in range(4):
            add(house, f"  N{number}: N{number}\n")
            given = {"reason": f"row {number}", "key": f"key {number}"}
            told = post(house, "/deploy", content=packed(house), params=given)
            assert (told["version"], told["again"]) == (number + 2, False)
        again = post(house, "/deploy", content=packed(house), params=given)
        assert (again["version"], again["again"]) == (5, True)
        same = post(house, "/deploy", 422, content=packed(house), params={"reason": "the same"})
        assert "nothing to deploy" in same["detail"]
        kept = {each["version"]: each["kept"] for each in get(house, "/versions")["items"]}
        assert kept == {5: True, 4: True, 3: True, 2: False, 1: False}
        gone = post(house, "/rollback", 422, json={"version": 1, "reason": "too old"})
        assert "not kept" in gone["detail"]
        digest = get(house, "")["digest"]
    # What lies in the folders does not count any more; even when it could not be loaded.
    add(house, sites.WRONG)
    with running_house(tmp_path, more=sites.configuration(folder)) as house:
        assert get(house, "") | {"digest": digest, "version": 5} == get(house, "")
        house.send(hl7.admission("A1"), hl7.results("R1", "O1", {"N3^x": "1"}))
        house.wait()
        assert codes(house, "R1") == [["N3", "N3"]]
    # Without a gateway the command does it itself, and the next start takes it.
    assert command(house, "rollback", "4", "--reason", "while it stands") == 0
    capsys.readouterr()
    assert command(house, "versions", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["current"], told["deployments"][0]["reason"]) == (4, "while it stands")
    with running_house(tmp_path, more=sites.configuration(folder)) as house:
        assert get(house, "")["version"] == 4


WARD = """\
mapping: chu.ward
version: 1.0.0
source: {format: hl7v2, versions: ["2.5"], match: {MSH-9.1: [ORU], MSH-9.2: [R02]}}
use: [hl7.datatypes, hl7.patient]
defaults: {invalid: flag, unknown: flag}
entries:
  - use: patient
    create_only: true
"""


def test_unmapped_messages_go_by_themselves(house: House) -> None:
    house.send(hl7.admission("A1"))
    bodies = [
        hl7.results(f"U{number}", f"U{number}", {GLUCOSE: "5"}).replace(
            b"ORU^R01^ORU_R01", b"ORU^R02"
        )
        for number in range(3)
    ]
    house.send(*bodies)
    numbers = [house.number(f"U{number}") for number in range(3)]
    eventually(lambda: {house.state(each) for each in numbers} == {MessageState.UNMAPPED})
    (site(house) / "ward.yaml").write_text(WARD, encoding="utf-8")
    post(house, "/deploy", content=packed(house), params={"reason": "the ward's results"})
    eventually(lambda: {house.state(each) for each in numbers} == {MessageState.DELIVERED})
    with house.gateway.journal.read() as connection:
        events = messages.events(connection, numbers[0])
    (again,) = [each for each in events if each.what == "read-again"]
    assert again.detail["mappings"] == 2


def test_one_message_that_no_reader_bears_stops_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.send(hl7.admission("A1"))
    house.send(hl7.results("V1", "V1", {GLUCOSE: "5"}).replace(b"ORU^R01^ORU_R01", b"ORU^R02"))
    eventually(lambda: house.state(house.number("V1")) is MessageState.UNMAPPED)
    sweep = UnmappedSweep(house.gateway.journal)
    sweep.again()

    def fail(*_: object) -> object:
        raise RuntimeError

    monkeypatch.setattr("gateway.deployment.unmapped.original_of", fail)
    assert not sweep.step(house.gateway.mappings.now)
    with house.gateway.journal.read() as connection:
        events = messages.events(connection, house.number("V1"))
    assert [each.what for each in events].count("read-again") == 1


def test_a_job_is_paused_by_another_deployment_and_stopped_by_hand(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.send(
        hl7.admission("A1"),
        *(hl7.results(f"R{n}", f"O{n}", {POTASSIUM: f"4.{n}"}) for n in range(6)),
    )
    house.wait()
    add(house, sites.ROW)
    post(house, "/deploy", content=packed(house), params={"reason": "potassium"})
    monkeypatch.setattr("gateway.deployment.reprocessing.STEP_MESSAGES", 1)
    monkeypatch.setattr("gateway.stepping.BETWEEN_STEPS_SECONDS", 5.0)
    wanted = {"kind": "ORU^R01", "reason": "potassium"}
    job = post(house, "/reprocessing", 201, json=wanted)["id"]
    busy = post(house, "/reprocessing", 409, json=wanted)
    assert busy["job"] == job
    eventually(lambda: get(house, f"/reprocessing/{job}")["counts"].get("examined", 0) >= 1)
    post(house, "/rollback", json={"reason": "not yet"})
    house.gateway.follower.wake()
    eventually(lambda: get(house, f"/reprocessing/{job}")["state"] == "paused")
    assert "came into force" in get(house, f"/reprocessing/{job}")["note"]
    post(house, "/rollback", json={"version": 2, "reason": "now"})
    assert post(house, f"/reprocessing/{job}/resume")["state"] == "running"
    assert post(house, f"/reprocessing/{job}/pause")["state"] == "paused"
    assert post(house, f"/reprocessing/{job}/stop")["state"] == JobState.STOPPED.value
    post(house, f"/reprocessing/{job}/resume", 409)
    monkeypatch.undo()
    again = post(house, "/reprocessing", 201, json=wanted)["id"]
    assert done(house, again)["failures"] == []
    assert [codes(house, f"R{n}") for n in range(6)] == [[["2823-3", "K"]]] * 6


def test_a_draft_of_the_console_and_the_disk(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "sites/chu/terminology/analyses.yaml"
    text = table(house).read_text(encoding="utf-8")
    key = {"key": "0123456789abcdef"}
    with house.client(follow_redirects=False) as http:
        first, second = (http.post("/mappings/drafts").headers["location"] for _ in range(2))
        shipped = {"path": "base/hl7/results.yaml", "text": "mapping: mine"}
        assert http.post(f"{first}/save", data=shipped).status_code == 422
        out = {"path": "sites/chu/../../x.yaml", "text": ""}
        assert http.post(f"{first}/save", data=out).status_code == 422
        for draft, row in ((first, sites.ROW), (second, "  NA: 2951-2\n")):
            said = http.post(f"{draft}/save", data={"path": path, "text": text + row})
            assert "No errors" in said.text
        new = http.post(f"{first}/files", data={"name": "terminology/more"}).headers["location"]
        assert "sites%2Fchu%2Fterminology%2Fmore.yaml" in new
        over = http.post(f"{first}/files", data={"of": "base/hl7/adt.yaml"}).headers["location"]
        assert http.get(over).status_code == 200
        unsaid = http.post(f"{first}/deploy", data={**key, "reason": " "})
        assert unsaid.status_code == 422
        assert "Say why" in unsaid.text
        done = http.post(f"{first}/deploy", data={**key, "reason": "potassium"})
        assert done.headers["location"] == "/mappings?deployed=2"
        assert http.get(first).status_code == 404, "it is in force, and no draft any more"

        # The other draft is of the files before: nothing of it is deployed unseen.
        late = http.post(f"{second}/deploy", data={"key": "f" * 16, "reason": "sodium"})
        assert late.status_code == 422
        assert "came into force since" in late.text
        assert f"{path} was changed there too" in re.sub(r"<[^>]+>", "", late.text)
        http.post(f"{second}/take-over")
        done = http.post(f"{second}/deploy", data={"key": "e" * 16, "reason": "sodium"})
        assert done.headers["location"] == "/mappings?deployed=3"
        assert http.post(f"{second}/drop").status_code == 303

    # A deployment from the disk would undo that, and says so.
    add(house, "  CL: 2075-0\n")
    assert command(house, "deploy", "--reason", "chloride") == Code.FAILED
    said = capsys.readouterr().err
    assert path in said
    assert "edited in the console since" in said
    assert command(house, "deploy", "--reason", "chloride", "--overwrite") == 0
    assert get(house, "/versions/4")["edited"] == []


OBSERVED = """\
    also:
      - resource: Observation
        id: {key: [OBX-3.1], authority: [MSH-4.1]}
        set:
          status: {const: final, reason: "a test"}
          code: {from: OBX-3, missing: {absent: unknown}}
          subject: {ref: Patient}
          value: {from: OBX-5, as: Quantity}
"""


def ward(control_id: str, value: str) -> bytes:
    body = hl7.results(control_id, "W", {"TEMP^Temperature": value})
    return body.replace(b"ORU^R01^ORU_R01", b"ORU^R02")


def observation(house: House, control_id: str) -> dict[str, Any]:
    """What the record holds now of the Observation that a message once stated."""
    with house.gateway.journal.read() as connection:
        page = house.gateway.record.of_message(connection, house.number(control_id))
        (name,) = {
            each.resource["id"] for each in page if each.resource["resourceType"] == "Observation"
        }
        found = house.gateway.record.read(connection, "Observation", name)
    assert found is not None
    return dict(found.resource)


def test_what_vanishes_is_marked_and_a_newer_message_keeps_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across a restart in the midst of the job."""
    folder = sites.write_site(tmp_path)
    (folder / "chu" / "ward.yaml").write_text(WARD + OBSERVED, encoding="utf-8")
    with running_house(tmp_path, more=sites.configuration(folder)) as house:
        house.send(hl7.admission("A1"), ward("W1", "37.1"), ward("W2", "38.4"))
        house.wait()
        assert str(observation(house, "W1")["valueQuantity"]["value"]) == "38.4"
        coded = OBSERVED.replace("as: Quantity}", 'as: Quantity, when: "OBX-5 exists"}').replace(
            "a test", "another test"
        )
        (folder / "chu" / "ward.yaml").write_text(
            WARD + coded.replace("const: final", "const: amended"), encoding="utf-8"
        )
        post(house, "/deploy", content=packed(house), params={"reason": "amended"})
        monkeypatch.setattr("gateway.deployment.reprocessing.STEP_MESSAGES", 1)
        monkeypatch.setattr("gateway.stepping.BETWEEN_STEPS_SECONDS", 30.0)
        monkeypatch.setattr("gateway.deployment.following.EVERY_SECONDS", 30.0)
        job = post(house, "/reprocessing", 201, json={"reason": "amended"})["id"]
        eventually(lambda: get(house, f"/reprocessing/{job}")["counts"].get("examined", 0) >= 1)
        assert get(house, f"/reprocessing/{job}")["state"] == "running"
    monkeypatch.undo()
    with running_house(tmp_path, more=sites.configuration(folder)) as house:
        counts = done(house, job)["counts"]
        assert (counts["examined"], counts["changed"]) == (3, 2), "each once, across the restart"
        found = observation(house, "W1")
        assert (found["status"], str(found["valueQuantity"]["value"])) == ("amended", "38.4")

        (folder / "chu" / "ward.yaml").write_text(WARD, encoding="utf-8")
        post(house, "/deploy", content=packed(house), params={"reason": "no measures"})
        first = house.number("W1")
        told = post(house, "/reprocessing/dry-run", json={"kind": "ORU^R02"})
        assert told["counts"]["facts_vanished"] == 2
        only = {"ids": [first], "reason": "only the older one"}
        done(house, post(house, "/reprocessing", 201, json=only)["id"])
        assert observation(house, "W1")["status"] == "amended", "the newer one says it still"
        rest = {"kind": "ORU^R02", "reason": "all of them"}
        done(house, post(house, "/reprocessing", 201, json=rest)["id"])
        found = observation(house, "W1")
        assert found["status"] == "entered-in-error"
        assert found["meta"]["tag"][0]["code"] == "withdrawn"
        assert house.state(first) is MessageState.DELIVERED
