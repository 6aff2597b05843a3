"""Associations that we open, by pynetdicom: titles, addresses, TLS, roles."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

from adapters.dicom.loading import load_pynetdicom
from adapters.dicom.part10 import IMPLEMENTATION_CLASS_UID
from adapters.dicom.settings import DicomPeerSettings
from adapters.tls import TlsUnusable, client_context

TIMEOUT_SECONDS = 30.0
_REJECTED = frozenset({1, 2})
"""Results of a rejection: for good, for now (PS3.8 table 9-21)."""


@contextlib.contextmanager
def associate(
    peer: DicomPeerSettings,
    own_title: str,
    sop_classes: Sequence[str],
    *,
    provides: bool,
    seconds: float = TIMEOUT_SECONDS,
    handlers: Sequence[tuple[Any, Any]] = (),
) -> Iterator[Any]:
    """An association with a peer for some SOP classes, released at the end of the block.

    ``provides``: we are their SCP, although we open the association (PS3.7 D.3.3.4).
    ``seconds`` is how long each word of the peer's is waited for, ``handlers`` what else the peer
    may ask for meanwhile (pynetdicom's events). Raises ConnectionError, naming the peer's title
    and address.
    """
    load_pynetdicom()
    from pynetdicom import AE, _config, build_role, evt

    _config.LOG_HANDLER_LEVEL = "none"
    host, _, port = peer.connect.rpartition(":")
    ae = AE(ae_title=own_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.connection_timeout = ae.acse_timeout = seconds
    ae.dimse_timeout = ae.network_timeout = seconds
    roles = []
    for uid in sop_classes:
        ae.add_requested_context(uid)
        if provides:
            roles.append(build_role(uid, scp_role=True))
    where = f"{peer.ae_title} at {peer.connect}"
    try:
        association = ae.associate(
            host.strip("[]"), int(port), ae_title=peer.ae_title, ext_neg=roles or None,
            tls_args=_tls(peer), evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay), *handlers],
        )  # fmt: skip
    except (TlsUnusable, OSError, ValueError) as error:
        raise ConnectionError(f"{where}: {error}") from None
    if not association.is_established:
        raise ConnectionError(f"{where} {why_not(association)}")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


@contextlib.contextmanager
def answers_are_ours(association: Any) -> Iterator[None]:
    """Within the block pynetdicom's own thread takes no message: answers can be waited for."""
    # It may not yet have gone on after the last time, and still say that it pauses.
    while (
        association._reactor_checkpoint.is_set()
        and association._is_paused
        and association.is_alive()
    ):
        time.sleep(0.0001)
    association._reactor_checkpoint.clear()
    while not association._is_paused and association.is_alive():
        time.sleep(0.0001)
    try:
        yield
    finally:
        association._reactor_checkpoint.set()


def takes_nothing(association: Any) -> bool:
    """Whether the peer accepted an association and none of its presentation contexts, which
    pynetdicom aborts then."""
    return bool(association.rejected_contexts) and not association.accepted_contexts


def rejection_of(association: Any) -> Any:
    """The peer's word by which it rejected an association; None when there was none.

    pynetdicom takes a connection that is closed for one that never stood: a rejection that came,
    and was followed by the peer's closing, before its thread looked, lies there unread.
    """
    if association.is_rejected:
        return association.acceptor.primitive
    word = association.dul.peek_next_pdu()
    return word if getattr(word, "result", None) in _REJECTED else None


def why_not(association: Any) -> str:
    """Why pynetdicom's association does not stand, in words that follow the peer's name: with the
    reason of a rejection (PS3.8 table 9-21)."""
    word = rejection_of(association)
    if word is not None:
        lasting = "" if word.result == 1 else " for now"
        reason = word.reason_str
        return f"rejects the association{lasting}: {reason[:1].lower()}{reason[1:]}"
    if takes_nothing(association):
        return (
            "takes the association, but nothing of what is asked for: it may not offer this "
            "service, or not to our AE title"
        )
    return "cannot be reached"


def _tls(peer: DicomPeerSettings) -> tuple[Any, str] | None:
    if peer.tls is None:
        return None
    host = peer.connect.rpartition(":")[0].strip("[]")
    return client_context(peer.tls), peer.tls.server_name or host


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
