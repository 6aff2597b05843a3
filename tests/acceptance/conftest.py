"""One running gateway for the acceptance tests that do not kill it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.gateway_process import GatewayProcess


@pytest.fixture(scope="module")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway on SQLite as a process of its own, one per test module."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"))
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.log_tail()
