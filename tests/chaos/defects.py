"""A gateway with a defect put into it, to prove that the ledger would show it.

python -m tests.chaos.defects {acknowledge-early|two-transactions} run --config …
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from gateway.model import Delivered, Disposition, Receipt, Received

_BETWEEN_SECONDS = 0.3


def acknowledge_early() -> None:
    """Answer a sender before the commit that holds his message."""
    from gateway.intake import JournalIntake

    keep = JournalIntake.submit_all

    def submit_all(
        self: JournalIntake, handed: Sequence[tuple[Received, Any]], settle: Any
    ) -> None:
        settle(
            [
                (
                    token,
                    Receipt(message_id=0, disposition=Disposition.ACCEPTED, answer=received.answer),
                )
                for received, token in handed
            ]
        )
        keep(self, handed, lambda _: None)

    JournalIntake.submit_all = submit_all  # type: ignore[method-assign]


def two_transactions() -> None:
    """Mark deliveries as done in one transaction, and do them in the next."""
    from gateway import deliver
    from gateway.attempt import attempt_at_once, make_ready
    from gateway.journal import convoy

    def all_at_once(self: Any, destination: Any, held: Sequence[Any]) -> None:
        if not held:
            return
        tokens = {each.lane: each.token for each in held}
        items = [item for each in held for item in each.items]
        with self._journal.write() as connection:
            convoy.fence_all(connection, tokens)
            self._settler.record(connection, [(item, Delivered()) for item in items])
        time.sleep(_BETWEEN_SECONDS)
        with self._journal.write() as connection:
            attempt_at_once(connection, destination, items, make_ready(destination, items))
            convoy.release_all(connection, tokens, self._now())

    deliver.OutboundDrain._all_at_once = all_at_once  # type: ignore[method-assign]


FAULTS = ("kill-gateway", "kill-at-answer")
PAUSE = (2.0, 5.0)
"""Seconds between them: a gateway that has just started delivers nothing yet."""

DEFECTS = {"acknowledge-early": acknowledge_early, "two-transactions": two_transactions}


def main() -> None:
    """Put the defect in, then run the command line."""
    DEFECTS[sys.argv.pop(1)]()
    from gateway.cli import main as command

    command()


if __name__ == "__main__":
    main()
