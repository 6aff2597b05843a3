"""The language of profile files: what a site requires of its senders' messages."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RANGE = r"^(\d{1,6}|\d{1,6}\.\.(\d{1,6}|\*)?|\.\.\d{1,6})$"
MESSAGE = r"^(\*|[A-Z][A-Z0-9]{2}(\^[A-Z0-9]{3})?)$"
CODE = r"^(10[0-3]|198|199|20[0-7])$"
SEGMENT = r"^[A-Z][A-Z0-9]{2}$"
FORMS = {
    RANGE: "how many is written 3, 1..3, 2..* or ..20",
    MESSAGE: "a message type is written ORU^R01, ORU or *",
    CODE: "a code of HL7 table 0357: 100 to 103, 198, 199, 200 to 207",
    SEGMENT: "the name of a segment has three capitals or digits",
}
"""What a text should have been that is not of one of these forms."""
_RANGE = re.compile(RANGE, re.ASCII)

Range = Annotated[
    str,
    Field(
        pattern=RANGE,
        description="How many: 3 (exactly), 1..3, 2..* or 2.. (at least), ..20 (at most)",
    ),
]
Kind = Literal["NM", "SI", "DT", "TM", "DTM", "digits", "letters", "alphanumeric", "oid", "uuid"]


def bounds(text: str) -> tuple[int, int]:
    """Least and most of a range; the most is -1 when it has no end."""
    least, dots, most = text.partition("..")
    if not dots:
        return int(least), int(least)
    return int(least or 0), -1 if most in {"", "*"} else int(most)


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Block):
    """What is asked of one path."""

    required: bool = Field(
        False,
        description="A segment: at least one. A field: written in each such segment. A component: "
        "written in each repetition, and in at least one",
    )
    forbidden: bool = Field(False, description="Not written, and no segment of the name")
    occurs: Range | None = Field(
        None, description="How many segments of the name, or repetitions of the field"
    )
    length: Range | None = Field(None, description="Characters of the value, as it is read")
    type: Kind | None = Field(
        None,
        description="NM number, SI small number, DT date, TM time, DTM date and time, or of what "
        "characters: digits, letters, alphanumeric (both), an OID, a UUID",
    )
    values: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=1000, description="The values that are taken"
    )
    table: str | None = Field(
        None,
        description="An HL7 table by its four digits (with the codes that tables: adds), or a "
        "table of this file",
    )
    starts_with: str | None = Field(None, min_length=1, description="How the value begins")
    severity: Literal["error", "warning"] = Field(
        "error", description="A warning is told and never refuses a message"
    )
    code: str | None = Field(
        None, pattern=CODE, description="Code of HL7 table 0357 (ERR-3) instead of the usual one"
    )
    note: str = Field("", max_length=200, description="Told to the sender instead of our words")

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        asked = self.model_fields_set - {"severity", "code", "note"}
        if not asked:
            raise ValueError("the rule asks for nothing: write required: true, for example")
        if self.forbidden and len(asked) > 1:
            raise ValueError("what is forbidden has no other constraint")
        for name in ("occurs", "length"):
            text = getattr(self, name)
            least, most = bounds(text) if text else (0, -1)
            if 0 <= most < least:
                raise ValueError(f"{name}: {text} ends before it begins")
        return self


class Profile(_Block):
    """A profile: what a site asks of messages beyond, or within, the HL7 grammar."""

    profile: str = Field(
        min_length=1, max_length=80, description="The profile's name, as findings tell it"
    )
    note: str = Field("", description="What it is for")
    versions: tuple[str, ...] = Field(
        (), description="HL7 versions (MSH-12.1) of the messages that it is for; empty: all"
    )
    grammar: bool = Field(
        False,
        description="At a source: check the grammar of the message's version, too. "
        "`ecluse hl7 check` always does",
    )
    segments: tuple[Annotated[str, Field(pattern=SEGMENT)], ...] = Field(
        (), description="Segments that are taken wherever they stand, beside the grammar's"
    )
    tables: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Codes: under four digits those added to HL7's table, under another name a "
        "table of this file",
    )
    messages: dict[Annotated[str, Field(pattern=MESSAGE)], dict[str, Rule]] = Field(
        description="Rules by path, by message type (ORU^R01, ORU, or * for all); the rule of the "
        "narrowest type wins for a path"
    )
