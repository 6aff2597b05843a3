"""Every French message of the corpus through a real socket to its end, by a table.

``french_outcomes.tsv`` gives for each file MSA-1, ERR-3, ERR-5, the place of the fault, where the
message then stands, and the reason.
"""

from __future__ import annotations

import csv
from pathlib import Path

from gateway.journal import messages
from gateway.journal.values import MessageFilter
from tests.integration.faces.house import House
from tests.integration.french.sending import answers, told

EXPECTED = Path(__file__).with_name("french_outcomes.tsv")


def test_each_file_ends_as_the_table_says(house: House, shared: Path) -> None:
    folder = shared / "corpora" / "hl7v2" / "ansforge__hl7V2-exemples"
    with EXPECTED.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["file"] for row in rows] == sorted(path.name for path in folder.iterdir())
    wrong = []
    for row in rows:
        [answer] = answers(house, (folder / row["file"]).read_bytes())
        house.wait()
        with house.gateway.journal.read() as connection:
            newest = messages.page(connection, MessageFilter(), limit=1)[0].id
            kept = messages.get(connection, newest)
        assert kept is not None
        location = kept.cause.location if kept.cause else ""
        seen = (*told(answer), location, kept.state.value)
        wanted = tuple(
            row[name] for name in ("answer", "error", "application", "location", "state")
        )
        if seen != wanted:
            wrong.append((row["file"], seen, wanted))
        refused = row["answer"] != "AA" or row["state"] == "refused"
        assert bool(row["reason"]) is refused, row["file"]
    assert not wrong
