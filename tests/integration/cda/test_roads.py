"""One document by every road: the same bytes, the same identifiers, the same entries."""

from __future__ import annotations

import contextlib
import re
import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.integration.faces.house import House, running_house
from tests.integration.french.sending import accept
from tests.integration.mail.mails import mail, mssante, written
from tests.integration.xdm.archives import archive
from tests.servers import free_port
from tests.unit.hl7.transmissions import DOCTOR, INS, PATIENT, SENDER, encoded, message

DOCUMENTS = {
    "BIO-CR-BIO_2024.01_TSH_1.xml": "1.2.250.1.213.1.1.9999",
    "IMG_CR_IMG_2024.01.xml": "",
    "DOC_NON_STRUCTURE_CDA-R2-N1.xml": "",
}
MORE = """
  - {{name: several, type: cda-http}}
  - {{name: drop, type: cda-folder, path: '{folder}/drop', poll_seconds: 0.02, settle_seconds: 0}}
  - {{name: archives, type: xdm-http}}
  - {{name: packed, type: xdm-folder, path: '{folder}/packed', poll_seconds: 0.02, settle_seconds: 0}}
  - {{name: post, type: smtp, listen: '127.0.0.1:{port}', recipients: ['@cabinet.mssante.fr']}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roads")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def house(place: Path, port: int) -> Iterator[House]:
    with running_house(place, more=MORE.format(folder=place, port=port)) as made:
        yield made
