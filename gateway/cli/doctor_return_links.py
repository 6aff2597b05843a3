"""Of the doctor: whether application acknowledgements find their way back to their senders."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.cli.checks import Check, Level

if TYPE_CHECKING:
    import ssl

    from adapters.tls import ClientTlsSettings
    from gateway.settings import Settings

CONNECT_SECONDS = 3.0
REFUSAL_SECONDS = 0.5
"""How long after a handshake a listener may take to say that it refuses our certificate."""


def return_link_checks(effective: Settings) -> Iterator[Check]:
    """Whether application acknowledgements find their way, and those that have none."""
    from adapters.hl7.settings import Hl7SourceSettings, MllpSourceSettings
    from adapters.tls import TlsUnusable, connect_fault

    standing = _acknowledgements(effective)
    for each in effective.sources:
        if not isinstance(each, Hl7SourceSettings):
            continue
        counted, name = standing.get(each.name, {}), f"return link {each.name}"
        address = each.return_host_and_port() if isinstance(each, MllpSourceSettings) else None
        if not isinstance(each, MllpSourceSettings) or address is None:
            if owed := counted.get("unlinked", 0):
                yield Check(name=name, level=Level.WARNING,
                            found=f"none, and {owed} application acknowledgements were asked for",
                            advice="Let the sender put NE into MSH-16, or "
                            "(MLLP only) set return_link.",
                            )  # fmt: skip
            continue
        try:
            _connect(address, each.return_link_tls)
        except TlsUnusable:
            continue  # the check of its certificates says why
        except OSError as error:
            yield Check(name=name, level=Level.WARNING,
                        found=f"{each.return_link}: {connect_fault(error)}",
                        advice=f"{counted.get('due', 0)} acknowledgements wait for it.",
                        )  # fmt: skip
            continue
        lost = counted.get("dead", 0) + counted.get("refused", 0)
        yield Check(name=name, level=Level.WARNING if lost else Level.OK,
                    found=f"{each.return_link}, {counted.get('due', 0)} due, {lost} not taken",
                    )  # fmt: skip


def _connect(address: tuple[str, int], tls: ClientTlsSettings | None) -> None:
    """Connect and close, with TLS up to the end of the handshake. Raises OSError, TlsUnusable."""
    from adapters.tls import client_context

    context = client_context(tls) if tls is not None else None
    with socket.create_connection(address, CONNECT_SECONDS) as plain:
        if context is not None:
            name = tls.server_name if tls is not None else ""
            with context.wrap_socket(plain, server_hostname=name or address[0]) as secure:
                _refused_at_once(secure)


def _refused_at_once(secure: ssl.SSLSocket) -> None:
    """With TLS 1.3 a client learns only when it reads that its certificate is not taken
    (RFC 8446, section 4.6.2 and appendix C). Raises OSError."""
    secure.settimeout(REFUSAL_SECONDS)
    with contextlib.suppress(TimeoutError):
        secure.recv(1)


def _acknowledgements(effective: Settings) -> dict[str, dict[str, int]]:
    """How many acknowledgements of each source stand where; nothing without a journal."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import acknowledgements
    from gateway.journal.faults import JournalFault, JournalUnavailable

    try:
        with reading(effective) as journal, journal.read() as connection:
            return shapes.acknowledgements(acknowledgements.counts(connection))
    except (JournalUnavailable, JournalFault):
        return {}  # the check of the journal says why
