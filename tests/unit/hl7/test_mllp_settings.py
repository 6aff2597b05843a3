"""An MLLP source's configuration: what is refused, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from adapters.hl7.settings import MllpSourceSettings


def settings(**values: Any) -> MllpSourceSettings:
    return MllpSourceSettings(**{"name": "lab", "type": "mllp", **values})


def test_defaults() -> None:
    made = settings()
    assert made.host_and_port() == ("127.0.0.1", 2575)
    assert made.charset_default == "UTF-8"
    assert made.frame_bytes_max == 16 << 20
    assert "ADT^Z99" in made.local_types
    assert settings(listen="[::1]:0").host_and_port() == ("::1", 0)


def test_every_field_is_described() -> None:
    assert not [
        name for name, field in MllpSourceSettings.model_fields.items() if not field.description
    ]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"listen": "2575"}, "not host:port"),
        ({"listen": "host:99999"}, "not host:port"),
        ({"listen": "host:x"}, "not host:port"),
        ({"zone": "Paris"}, "not a time zone"),
        ({"charset_default": "EBCDIC"}, "not a supported character set"),
        ({"authorities": {"HOSP": "1.2.x"}}, "not an OID"),
        ({"local_types": ["adt"]}, "not a message type"),
        ({"frame_bytes_max": 1}, "greater than or equal"),
        ({"held_bytes_max": 1 << 20}, "less than frame_bytes_max"),
        ({"unknown": 1}, "Extra inputs"),
        ({"name": ""}, "at least 1 character"),
        ({"idle_timeout_seconds": 0}, "greater than 0"),
    ],
)
def test_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(**values)
