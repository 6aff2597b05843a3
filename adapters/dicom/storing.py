"""An association with a storage SCP, kept between deliveries. Belongs to one thread.

For each SOP class the syntax that is stored is proposed in a context of its own, and the plain
syntaxes in others: a peer chooses one syntax of each context (PS3.8 9.3.2.2).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.loading import load_pynetdicom
from adapters.dicom.outgoing import rejection_of, takes_nothing, why_not
from adapters.dicom.part10 import IMPLEMENTATION_CLASS_UID
from adapters.dicom.sender import (
    CONTEXTS_MAX,
    PDU_BYTES_MAX,
    Originator,
    Outgoing,
    Sent,
    cut,
    store,
)
from adapters.dicom.syntaxes import UNCOMPRESSED
from adapters.tls import TlsUnusable, client_context

PLAIN = UNCOMPRESSED[:2]
"""What an object is decompressed to, in order of preference."""

Context = tuple[str, str]
"""SOP class and transfer syntax."""


class NotAssociated(Exception):
    """No association can be had. ``rejected`` is result, source and reason of the peer's
    rejection (PS3.8 table 9-21), None when there was none."""

    def __init__(self, said: str, rejected: tuple[int, int, int] | None = None) -> None:
        super().__init__(said)
        self.rejected = rejected


class StoreLine:
    """One association at a time with the peer of the settings."""

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._association: Any = None
        self._proposed: frozenset[Context] = frozenset()
        self._accepted: dict[Context, int] = {}
        self._timer: threading.Timer | None = None
        self._used = 0
        self._takes_nothing = False

    def stand(self, wanted: frozenset[Context], seconds: float) -> bool:
        """See to an association on which all of this was asked for; whether it stood before.

        ``wanted`` has at most :data:`CONTEXTS_MAX` members with :func:`proposals`. Raises
        NotAssociated.
        """
        self._rest()
        with self._lock:
            standing = self._association
            if standing is not None and standing.is_established and wanted <= self._proposed:
                return self._used > 0
            if self._takes_nothing and wanted <= self._proposed:
                return False
            self._close()
            # What was asked for before is asked for again, as long as there is room.
            every = proposals(wanted | self._proposed)
            if len(every) > CONTEXTS_MAX:
                every = proposals(wanted)
            self._association = self._associate(every, seconds)
            self._used = 0
            self._proposed = frozenset(every)
            self._takes_nothing = self._association is None
            accepted = self._association.accepted_contexts if self._association else ()
            self._accepted = {
                (str(each.abstract_syntax), str(each.transfer_syntax[0])): each.context_id
                for each in accepted
            }
            return False

    def context(self, sop_class: str, syntax: str) -> int | None:
        """The context in which the peer takes a class in a syntax; None when it takes it not."""
        return self._accepted.get((sop_class, syntax))

    def takes(self, sop_class: str) -> bool:
        """Whether the peer takes a class at all, as far as it was asked."""
        return any(each == sop_class for each, _ in self._accepted)

    def store(
        self,
        outgoing: Outgoing,
        context: int,
        seconds: float,
        originator: Originator | None = None,
    ) -> Sent:
        """C-STORE of one object; ``originator`` asked for it by C-MOVE."""
        association = self._association
        if association is None or not association.is_established:
            return Sent(outgoing.path, None, "the association has ended")
        self._used += 1
        return store(
            association, outgoing, context, self._used, seconds=seconds, originator=originator
        )

    def keep(self) -> None:
        """The work is done: the association is released after a while."""
        self._rest()
        if self._settings.keep_seconds == 0:
            self.close()
            return
        timer = threading.Timer(self._settings.keep_seconds, self._expire)
        timer.daemon = True
        self._timer = timer
        timer.start()

    def close(self) -> None:
        """Release the association. From any thread."""
        with self._lock:
            self._close()

    def _rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _expire(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._close()

    def _close(self) -> None:
        association, self._association = self._association, None
        self._takes_nothing = False
        if association is not None:
            if association.is_established:
                association.release()
            if association.is_alive() and association.dul.is_alive():
                cut(association)

    def _associate(self, contexts: list[Context], seconds: float) -> Any:
        """An association; None when the peer takes nothing of what is asked for."""
        load_pynetdicom()
        from pynetdicom import AE, _config, evt
        from pynetdicom.presentation import build_context

        settings = self._settings
        _config.LOG_HANDLER_LEVEL = "none"
        host, _, port = settings.connect.rpartition(":")
        ae = AE(ae_title=settings.own_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.maximum_pdu_size = PDU_BYTES_MAX
        within = max(min(settings.connect_timeout_seconds, seconds), 0.001)
        ae.connection_timeout = ae.acse_timeout = within
        ae.dimse_timeout = settings.timeout_seconds
        ae.network_timeout = settings.timeout_seconds + settings.keep_seconds
        ae.requested_contexts = [build_context(*each) for each in contexts]
        tls = None
        try:
            if settings.tls is not None:
                bare = host.strip("[]")
                tls = (client_context(settings.tls), settings.tls.server_name or bare)
            association = ae.associate(
                host.strip("[]"), int(port), ae_title=settings.ae_title or "ANY-SCP",
                tls_args=tls, evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
            )  # fmt: skip
        except (TlsUnusable, OSError, ValueError) as error:
            raise NotAssociated(f"it cannot be reached ({type(error).__name__})") from None
        if association.is_established:
            return association
        word = rejection_of(association)
        if word is not None:
            reason = (int(word.result), int(word.result_source), int(word.diagnostic))
            raise NotAssociated(f"it {why_not(association)}", reason)
        if takes_nothing(association):
            return None
        raise NotAssociated(f"it {why_not(association)}")


def proposals(wanted: frozenset[Context]) -> list[Context]:
    """What is asked for: each class in the syntaxes in which it is stored, and in plain ones."""
    plain = {(sop_class, syntax) for sop_class, _ in wanted for syntax in PLAIN}
    return sorted(wanted | plain)


def _no_delay(event: Any) -> None:
    with contextlib.suppress(OSError):
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
