"""JSON Schema (2020-12) of the files of the mapping language, for completion in an editor.

Made from the compiler's own lists of keys, conversions and policies and from the R4
definitions, so that what the editor offers is what loads. ``ecluse mapping check`` knows more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from gateway.mapping import attachments, identities, loading, tables, twins
from gateway.mapping.checks import CHECKS
from gateway.mapping.compiling import POLICIES
from gateway.mapping.conversions import COMPOUNDS
from gateway.mapping.entries import KEYS as ENTRY_KEYS
from gateway.mapping.policies import ABSENT_CODES
from gateway.mapping.r4.definitions import Definitions
from gateway.mapping.rules import ENTRY_KEYS as NESTED_KEYS
from gateway.mapping.rules import KEYS as RULE_KEYS
from gateway.mapping.vocabulary.registry import CONVERSIONS
from gateway.model import Format

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}
"""Every scalar is read as its text; an editor's own YAML takes some for numbers."""

_TEXTS: dict[str, Any] = {
    "anyOf": [{"$ref": "#/$defs/text"}, {"type": "array", "items": {"$ref": "#/$defs/text"}}]
}
_RULE: dict[str, Any] = {"$ref": "#/$defs/rule"}
_RULES: dict[str, Any] = {"type": "array", "items": _RULE, "minItems": 1}
_RULE_MAP: dict[str, Any] = {"type": "object", "additionalProperties": _RULE}
_POLICY: dict[str, Any] = {"$ref": "#/$defs/policy"}
_ANY: dict[str, Any] = {}


class Kind(StrEnum):
    """The kinds of files."""

    MAPPING = "mapping"
    TABLE = "table"
    SITE = "site"
    TWINS = "twins"


def schema_of(kind: Kind) -> dict[str, Any]:
    """The schema of one kind of file."""
    make = {
        Kind.MAPPING: _mapping,
        Kind.TABLE: _table,
        Kind.SITE: _site,
        Kind.TWINS: _twins,
    }[kind]
    body = make()
    return {
        "$schema": DIALECT,
        "title": f"Écluse {kind.value}",
        **body,
        "$defs": _definitions(targets=kind is Kind.MAPPING),
    }


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return {**made, "required": list(required)} if required else made


def _mapping() -> dict[str, Any]:
    source = _object(
        {
            "format": {"enum": [form.value for form in Format]},
            "versions": {"type": "array", "items": {"$ref": "#/$defs/text"}},
            "match": {"type": "object", "additionalProperties": _TEXTS},
        },
        ("format",),
    )
    ignored = _object(
        {"path": {"$ref": "#/$defs/text"}, "reason": {"$ref": "#/$defs/text"},
         "when": {"$ref": "#/$defs/text"}},
        ("path", "reason"),
    )  # fmt: skip
    known = {
        "mapping": {"$ref": "#/$defs/text"},
        "version": {"$ref": "#/$defs/text"},
        "source": source,
        "use": _TEXTS,
        "defaults": _object(dict.fromkeys(POLICIES, _POLICY)),
        "types": {"type": "object", "additionalProperties": {"$ref": "#/$defs/type"}},
        "blocks": {"type": "object", "additionalProperties": _RULE},
        "entries": {"type": "array", "items": {"$ref": "#/$defs/entry"}},
        "ignore": {"type": "array", "items": ignored},
    }
    properties = {key: known.get(key, {"$ref": "#/$defs/text"}) for key in loading._KEYS}
    return _object(properties, ("mapping", "version", "source"))


def _table() -> dict[str, Any]:
    row = {
        "anyOf": [
            {"$ref": "#/$defs/text"},
            _object({key: {"$ref": "#/$defs/text"} for key in tables._ROW_KEYS}, ("code",)),
        ]
    }
    properties: dict[str, Any] = {key: {"$ref": "#/$defs/text"} for key in tables._KEYS}
    properties["rows"] = {"type": "object", "additionalProperties": row}
    properties["fold"] = {"enum": ["true", "false", True, False]}
    return _object(properties, ("table", "version", "source", "licence", "rows"))


def _site() -> dict[str, Any]:
    return _object(
        {
            "extends": {"$ref": "#/$defs/text"},
            "override": {"type": "object", "additionalProperties": _ANY},
            "append": {"type": "object", "additionalProperties": _ANY},
            "remove": {"type": "array", "items": {"$ref": "#/$defs/text"}},
            "note": {"$ref": "#/$defs/text"},
        },
        ("extends",),
    )


def _twins() -> dict[str, Any]:
    context = _object(
        {
            "zone": {"$ref": "#/$defs/text"},
            "source": {"$ref": "#/$defs/text"},
            "authorities": {"type": "object", "additionalProperties": {"$ref": "#/$defs/text"}},
        }
    )
    known: dict[str, Any] = {
        "format": {"enum": [form.value for form in Format]},
        "context": context,
        "given_file": _TEXTS,
        "expect": {"type": "object", "additionalProperties": {"type": "object"}},
        "absent": _TEXTS,
        "flags": _TEXTS,
    }
    properties = {key: known.get(key, {"$ref": "#/$defs/text"}) for key in twins._KEYS}
    return {"type": "array", "items": _object(properties)}


# --- what the kinds share -------------------------------------------------------------------


def _definitions(*, targets: bool) -> dict[str, Any]:
    return {
        "text": SCALAR,
        "policy": _policy(),
        "identity": _identity(),
        "each": _each(),
        "map": _rule_map(nested=True),
        "rule": {"anyOf": [{"$ref": "#/$defs/text"}, _RULES, {"$ref": "#/$defs/map"}]},
        "type": _rule_map(nested=False, more={"type": {"$ref": "#/$defs/text"}}),
        "entry": _entry(targets=targets),
    }


def _policy() -> dict[str, Any]:
    words = ("skip", "flag", "reject", "drop", "keep-and-flag", "convert")
    answer = _object(
        {
            "map": _ANY,
            "text": {"$ref": "#/$defs/text"},
            "absent": {"enum": list(ABSENT_CODES)},
            "reason": {"$ref": "#/$defs/text"},
            "as": {"$ref": "#/$defs/text"},
        }
    )
    return {"anyOf": [{"enum": list(words)}, answer]}


def _identity() -> dict[str, Any]:
    known: dict[str, Any] = {"repeated": {"enum": ["number", "same"]}}
    one = _object({key: known.get(key, _RULE) for key in identities._KEYS}, ("key", "authority"))
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _each() -> dict[str, Any]:
    keys = ("path", "group", "segment", "beside", "series", "instance", "content", "where")
    step = {
        "anyOf": [
            {"$ref": "#/$defs/text"},
            _object({key: {"$ref": "#/$defs/text"} for key in keys}),
        ]
    }
    return {"anyOf": [step, {"type": "array", "items": step}]}


def _rule_map(*, nested: bool, more: dict[str, Any] | None = None) -> dict[str, Any]:
    keys = (*RULE_KEYS, "id", *(NESTED_KEYS if nested else ()))
    properties = {key: _key(key) for key in dict.fromkeys(keys)}
    return _object({**properties, **(more or {})})


def _key(key: str) -> dict[str, Any]:
    """The schema of one key of a rule or an entry."""
    conversions = sorted({*CONVERSIONS, *COMPOUNDS})
    table = {"anyOf": [{"$ref": "#/$defs/text"}, {"type": "object"}]}
    known: dict[str, Any] = {
        "first": _RULES,
        "items": _RULES,
        "all": _RULES,
        "const": _ANY,
        "set": _RULE_MAP,
        "cases": {**_RULE_MAP, "required": ["else"]},
        "each": {"$ref": "#/$defs/each"},
        "id": {"$ref": "#/$defs/identity"},
        "also": {"type": "array", "items": {"$ref": "#/$defs/entry"}},
        "as": {"anyOf": [{"enum": conversions}, {"$ref": "#/$defs/text"}]},
        "table": table,
        "translate": table,
        "ref": _TEXTS,
        "use": _TEXTS,
        "along": _TEXTS,
        "check": {"anyOf": [{"enum": sorted(CHECKS)}, _TEXTS]},
        "hand_over": _TEXTS,
        "create_only": {"enum": ["true", "false", True, False]},
        "final": {"enum": ["true", "false", True, False]},
        **dict.fromkeys(POLICIES, _POLICY),
    }
    if key in attachments.OPTIONS and key not in known:
        return _RULE
    if key == "unit":
        return _RULE
    found: dict[str, Any] = known.get(key, {"$ref": "#/$defs/text"})
    return found


def _entry(*, targets: bool) -> dict[str, Any]:
    properties = {key: _key(key) for key in dict.fromkeys((*ENTRY_KEYS, *NESTED_KEYS))}
    made = _object(properties)
    if not targets:
        return made
    definitions = Definitions.load()
    resources = sorted(definitions.resources)
    made["properties"]["resource"] = {"enum": resources}
    made["allOf"] = [
        {
            "if": {"properties": {"resource": {"const": kind}}, "required": ["resource"]},
            "then": {
                "properties": {"set": {"propertyNames": {"enum": elements(definitions, kind)}}}
            },
        }
        for kind in resources
    ]
    return made


def elements(definitions: Definitions, location: str) -> list[str]:
    """The names that ``set:`` takes below a resource, type or backbone element."""
    names: dict[str, None] = {}
    for name, definition in definitions.children(location).items():
        bare = name.removesuffix("[x]")
        names[bare] = None
        if definition.choice:
            names.update(dict.fromkeys(definition.keys().values()))
        if any(kind in definitions.primitives for kind in definition.types):
            names.update({f"_{each}": None for each in list(names) if each.startswith(bare)})
    return sorted(name for name in names if not name.startswith("__"))
