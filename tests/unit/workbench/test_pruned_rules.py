"""What is left of the rules for what a message has gives what all of them would give.

The rules that a watch is told of are neither pruned nor do they remember: they are the
measure. Fields and segments of a full result are taken away, emptied or made null.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7.language import Hl7Reader
from gateway.mapping.observing import watching
from gateway.mapping.serialise import dumps
from gateway.model import Format, Mapped, Payload
from tests.unit.workbench.bench import CONTEXT, bench

FULL = (
    r"MSH|^~\&|LAB|X|ECLUSE|X|20240101120000||ORU^R01^ORU_R01|1|P|2.5",
    "PID|1||42^^^CHU&1.2.250.1.9&ISO^PI~77^^^RIS^PI||TESTARD^Zoé^Marie^^^^L||19881005|F|||1 RUE A^^LYON"
    "^^69001||^PRN^PH^^^^0102030405",
    "NK1|1|TESTARD^Paul|FTH",
    "PV1|1|I|MED^12^1^CHU||||101^MARTIN^Anne|||||||||||V1^^^CHU^VN",
    "AL1|1|DA|PEN^Pénicilline^L|SV",
    "ORC|RE|P1^DPI|F1^LAB||CM||||20240101|||101^MARTIN^Anne",
    "OBR|1|P1^DPI|F1^LAB|24323-8^Bilan^LN|||20240101103000|20240101104000||||||||101^MARTIN^Anne"
    "||||||20240101120000||LAB|F",
    "NTE|1||à jeun",
    "OBX|1|NM|2345-7^Glucose^LN||5.40|mmol/L|3.9-6.1|N|||F|||20240101104000||101^MARTIN^Anne",
    "NTE|1||hémolysé||101^MARTIN^Anne",
    "OBX|2|SN|2951-2^Sodium^LN||<^140|mmol/L|136-145|L~X|||F|||||||EQ1|20240101110000||||LABO^^77",
    "OBX|3|CE|600-7^Germe^LN||A^a^L~B^b^L||||||P",
    "OBX|4|ST|8251-1^Note^LN|1|texte||||||Z|||||||||||||LABO^^^^^X&1.2.3&ISO^XX^^^77|1 RUE^^LYON",
    "SPM|1|S1&LAB^||BLD^Sang^HL70487|||||||||||||20240101103000",
)

changes = st.lists(
    st.tuples(
        st.integers(0, len(FULL) - 1),
        st.integers(2, 26),
        st.sampled_from(["", "", '""', "gone", "odd"]),
    ),
    max_size=14,
)


def changed(made: list[tuple[int, int, str]]) -> bytes:
    lines = [line.split("|") for line in FULL]
    gone = set()
    for index, field, how in made:
        if how == "gone":
            gone |= {index} if index else set()
        elif field < len(lines[index]) and (index or field > 11):
            lines[index][field] = "\\F\\^&^~odd" if how == "odd" else how
    kept = ["|".join(fields) for number, fields in enumerate(lines) if number not in gone]
    return "\r".join(kept).encode() + b"\r"


def said(mapped: Mapped) -> tuple[object, ...]:
    entries = [(dumps(entry.resource), entry.create_only) for entry in mapped.entries]
    return entries, flags(mapped), mapped.embedded, mapped.attachments


def flags(mapped: Mapped) -> list[str]:
    """In any order: what is pruned is done in another one."""
    return sorted(map(repr, mapped.flags))


def sorted_keys(mapped: Mapped) -> list[bytes]:
    return [dumps(entry.resource, sort_keys=True) for entry in mapped.entries]


@settings(max_examples=20, deadline=None)
@given(changes)
def test_pruned_rules_give_what_all_rules_give(made: list[tuple[int, int, str]]) -> None:
    root = Hl7Reader().read([Payload.from_bytes(changed(made))])
    program = bench().library.match(root, Format.HL7V2)
    assert program is not None
    with watching():
        whole = program.run(root, CONTEXT, trace=True)
    first, again = program.run(root, CONTEXT), program.run(root, CONTEXT)
    assert said(first) == said(again)
    assert sorted_keys(first) == sorted_keys(whole)
    assert (flags(first), first.embedded) == (flags(whole), whole.embedded)
    traced = program.run(root, CONTEXT, trace=True)
    assert said(traced) == said(whole)
    assert traced.trace == whole.trace
