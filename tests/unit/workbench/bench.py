"""A bench with the shipped mappings, and messages to lay on it."""

from __future__ import annotations

from functools import cache

from gateway.deployment.loading import checked_mappings
from gateway.formats import inventories, languages, readers
from gateway.mapping import Library, MappingContext, packaged_mappings
from gateway.model import Cause, Format, Payload
from gateway.workbench.examining import Bench, Examined, examine

CONTEXT = MappingContext(zone="Europe/Paris", source="test")

ORU = "\r".join(
    (
        r"MSH|^~\&|LAB|X|ECLUSE|X|20240101120000||ORU^R01^ORU_R01|1|P|2.5",
        "PID|1||42^^^CHU^PI~77^^^RIS^PI||TESTARD^Zoé^Marie||19881005|F|||||||||||||||||||||||ZZZ",
        "OBR|1|P1|F1^LAB|24323-8^Bilan^LN|||20240101103000|||||||||||||||||||F",
        "OBX|1|NM|2345-7^Glucose^LN||5.40|mmol/L|3.9-6.1|N|||F|||20240101104000",
        "OBX|2|NM|2951-2^Sodium^LN||trop|mmol/L|||||F",
        "",
    )
)


@cache
def bench() -> Bench:
    """The bench of the shipped mappings; loading takes seconds, so once."""
    library = Library.load([packaged_mappings()], languages(), checked=checked_mappings())
    return Bench(readers=readers(), library=library, inventories=inventories())


def examined(message: str | bytes, format: Format = Format.HL7V2) -> Examined:  # noqa: A002
    data = message if isinstance(message, bytes) else message.encode()
    found = examine(bench(), format, [Payload.from_bytes(data)], CONTEXT)
    assert not isinstance(found, Cause), found
    return found
