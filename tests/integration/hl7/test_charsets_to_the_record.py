"""French in four character sets, from the sender's bytes to the record's FHIR."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.hl7.delimiters import DEFAULT
from adapters.hl7.escapes import escape_text
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House, running_house

NUMBERS = itertools.count(1)
FRENCH = "ABCXYZabcxyz 0123456789 àâäçéèêëîïôöùûüÿæÀÂÄÇÉÈÊËÎÏÔÖÙÛÜÆ'«»°²³µ|^~\\&-"
CHARSETS = {  # what MSH-18 says -> the codec, and the French that only some have
    "UNICODE UTF-8": ("utf-8", "œŒŸ€—“”’…"),
    "8859/1": ("latin-1", ""),
    "8859/15": ("iso8859-15", "œŒŸ€"),
    "WINDOWS-1252": ("cp1252", "œŒŸ€—“”’…"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(tmp_path_factory.mktemp("charsets")) as made:
        assert made.send(hl7.admission("CHARSET-ADT")) == ["AA"]
        made.wait()
        yield made


def texts(charset: str) -> st.SearchStrategy[list[str]]:
    word = st.text(FRENCH + CHARSETS[charset][1], min_size=1, max_size=30)
    # A mapping trims texts and takes "" for nothing; neither is about character sets.
    word = word.map(str.strip).filter(lambda text: text != "")
    return st.lists(word, min_size=4, max_size=12, unique=True)


def report(control_id: str, charset: str, values: list[str]) -> bytes:
    """ORU^R01 with one textual result for each value."""
    data = hl7.results(control_id, control_id, {}).decode().replace("UNICODE UTF-8", charset)
    for number, value in enumerate(values, 1):
        escaped = escape_text(value, DEFAULT)
        data += f"OBX|{number}|ST|L{number}^Texte {number}^L||{escaped}||||||F|||20261120093000\r"
    return data.encode(CHARSETS[charset][0])


def recorded(house: House, control_id: str) -> list[str]:
    """The texts of the observations that the record holds of a message, read as FHIR."""
    with house.client() as http:
        life = http.get(f"/api/v1/messages/{house.number(control_id)}").json()
        assert life["state"] == "delivered"
        found = []
        for entry in life["normalised"]["entries"]:
            if entry["reference"].startswith("Observation/"):
                resource = http.get(f"/fhir/{entry['reference']}").raise_for_status().json()
                found.append((resource["code"]["coding"][0]["code"], resource["valueString"]))
    return [value for _, value in sorted(found, key=lambda each: int(each[0].removeprefix("L")))]


@pytest.mark.parametrize("charset", CHARSETS)
@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_french_arrives_as_it_was_sent(house: House, charset: str, data: st.DataObject) -> None:
    values = data.draw(texts(charset))
    control_id = f"CS{next(NUMBERS)}"
    assert house.send(report(control_id, charset, values)) == ["AA"]
    house.wait()
    assert recorded(house, control_id) == values


def test_what_is_not_in_its_character_set_is_refused_with_the_byte(house: House) -> None:
    body = report("CSBAD", "UNICODE UTF-8", ["naïve"]).replace("ï".encode(), b"\xef")
    assert house.send(body) == ["AE"]
    with house.client() as http:
        life = http.get(f"/api/v1/messages/{house.number('CSBAD')}").json()
    assert life["cause"]["code"] == "character-set"
    assert f"offset {body.index(bytes([0xEF]))} " in life["cause"]["detail"]
    assert life["cause"]["location"] == "OBX-5"
