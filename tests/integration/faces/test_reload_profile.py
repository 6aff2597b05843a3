"""A source's profile taken, and refused, while the gateway runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.output import Code
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House, running_house
from tests.integration.faces.test_reload import reload, write

PROFILE = "profile: ward\nmessages:\n  ADT:\n    PV1-2: {required: yes, values: [O]}\n"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with running_house(tmp_path) as made:
        yield made


def test_a_profile_comes_by_reload_and_a_wrong_one_changes_nothing(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text(PROFILE, encoding="utf-8")
    wrong.write_text(PROFILE.replace("PV1-2", "PVX-2"), encoding="utf-8")
    assert house.send(hl7.admission("P1")) == ["AA"]
    write(house, sources={"lab": {"profile": str(right)}})
    assert reload(house)["changed"] == ["lab"]
    assert house.send(hl7.admission("P2")) == ["AE"]
    with house.client() as http:
        life = http.get(f"/api/v1/messages/{house.number('P2')}").json()
    assert (life["state"], life["cause"]["code"]) == ("refused", "profile-violated")
    assert life["cause"]["location"] == "PV1-2"
    assert life["cause"]["do"]
    write(house, sources={"lab": {"profile": str(wrong)}})
    told = reload(house, 422)
    assert "wrong.yaml:4:5: HL7" in told["problems"][0]
    assert house.send(hl7.admission("P3")) == ["AE"]
    assert main(["config", "check", str(house.configuration)]) != Code.DONE
    assert "wrong.yaml:4:5: HL7" in "".join(capsys.readouterr())
    write(house, sources={"lab": {"profile": str(right), "profile_mode": "flag"}})
    reload(house)
    assert house.send(hl7.admission("P4")) == ["AA"]
    with house.client() as http:
        life = http.get(f"/api/v1/messages/{house.number('P4')}").json()
    assert life["attributes"]["profile"] == "ward: PV1-2 103"
