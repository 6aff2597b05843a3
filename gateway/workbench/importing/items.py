"""What the makers of rules share: a row on its way to a rule, and names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.workbench.importing.attributes import Step
from gateway.workbench.importing.conditions import NotTranslated
from gateway.workbench.importing.rows import MapRow

SIMPLE_TYPES = frozenset(
    {"ST", "ID", "IS", "SI", "NM", "DT", "TM", "DTM", "TS", "FT", "TX", "SNM", "GTS", "varies", ""}
)


def component(base: str, number: str) -> str:
    """The path of a component below a path. Raises NotTranslated below a subcomponent."""
    made = f"{base}.{number}"
    if made.count(".") > 2:
        raise NotTranslated("stands below a subcomponent, which HL7 v2 cannot encode")
    return made


@dataclass(frozen=True, slots=True)
class Item:
    """One row on its way to a rule: the steps left, the path that it reads, its condition."""

    row: MapRow
    steps: tuple[Step, ...]
    path: str
    when: str
    value: str
    locate: Callable[[str], str]


def type_name(name: str) -> str:
    """``CX[Identifier]`` as a type's name: ``CX_Identifier``."""
    return name.replace("[", "_").replace("]", "").replace(".", "-")


def table_name(name: str) -> str:
    """``AddressType[Use]`` as a table's name: ``v2-to-fhir/AddressType_Use``."""
    return f"v2-to-fhir/{type_name(name)}"
