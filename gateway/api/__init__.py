"""HTTP: health, metrics, the FHIR reading API, the CDA intake, REST and the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from gateway.bootstrap import Gateway


def create_app(gateway: Gateway) -> Starlette:
    """The application of one gateway. Raises ``security.TokenUnusable``."""
    # The command line reads this package's security module without a web server.
    from gateway.api.app import build

    return build(gateway)
