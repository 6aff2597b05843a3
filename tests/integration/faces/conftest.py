"""A running gateway with a patient, results, a correction, held, refused and dead messages."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House, running_house


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One gateway for all tests of the faces, seeded. Each test adds what it changes."""
    with running_house(tmp_path_factory.mktemp("house")) as made:
        seed(made)
        yield made


@pytest.fixture
def http(house: House) -> Iterator[httpx2.Client]:
    """A client that follows redirects, as a browser does."""
    with house.client(follow_redirects=True) as client:
        yield client


def seed(house: House) -> None:
    """What every page needs something of."""
    glucose, potassium = "2345-7^Glucose", "2823-3^Potassium"
    codes = house.send(
        hl7.admission("ADT1"),
        hl7.results("ORU1", "B1", {glucose: "6.10", potassium: "4.1"}, flag="H"),
        hl7.results("ORU2", "B2", {glucose: "5.0"}, time="20261121093000+0100"),
        hl7.results("ORU3", "B2", {glucose: "4.70"}, time="20261121093000+0100", status="C"),
        hl7.results("ORU4", "B3", {f"9-9^{hl7.HOSTILE.replace('&', '')}": "1.0"}),
        hl7.results("HELD1", "B4", {potassium: "4.0"}, ins="", ipp=hl7.OTHER_IPP),
        *(hl7.results(f"DEAD{n}", f"D{n}", {potassium: "4.4"}, ins=hl7.WRONG_INS)
          for n in range(4)),
        hl7.results("REFUSED1", "B6", {potassium: "4.4"}).replace(b"ORU^R01^ORU_R01", b"ZZZ^Z99"),
        hl7.letter("MDM1"),
    )  # fmt: skip
    assert codes == [*["AA"] * 10, "AR", "AA"]
    house.wait()
