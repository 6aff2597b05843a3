"""What a configuration of manifests must say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings

FRENCH = {"profile": "drim-m", "retrieve_url": "https://wado.example/rs"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"manifest": {"profile": "drim-m"}}, "drim-m needs retrieve_url"),
        ({"manifest": {**FRENCH, "profile": "elga"}}, "elga needs retrieve_ae_title"),
        ({"manifest": {**FRENCH, "retrieve_url": "https://wado.example/rs/"}}, "pattern"),
        ({"manifest": {**FRENCH, "accession_issuer": "hospital"}}, "pattern"),
        ({"manifest": {**FRENCH, "uid_root": "1.2.250.1.213.4.5.2.3.101"}}, "24 characters"),
        ({"manifest": {**FRENCH, "zone": "Paris"}}, "no such IANA time zone"),
        (
            {"manifest": FRENCH, "sources": [{"name": "manifest", "type": "cda-http"}]},
            "name yours otherwise",
        ),
        (
            {
                "manifest": FRENCH,
                "destinations": [{"name": "far", "type": "fhir", "url": "https://fhir.example"}],
            },
            "manifest needs the built-in record",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate(given)


def test_a_destination_may_take_manifests_alone() -> None:
    settings = Settings.model_validate(
        {
            "manifest": FRENCH,
            "sources": [{"name": "ct", "type": "dicom", "listen": "127.0.0.1:0"}],
            "destinations": [
                {"name": "record", "type": "record"},
                {
                    "name": "far",
                    "type": "fhir",
                    "url": "https://fhir.example",
                    "sources": ["manifest"],
                },
            ],
        }
    )
    assert settings.manifest is not None
    assert settings.manifest.after_report
    assert not settings.manifest.model_copy(update={"await_report": False}).after_report
