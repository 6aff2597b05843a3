"""Which associations are taken, and with which presentation contexts (PS3.8 7.1, PS3.7 D.3).

Pure: a request and a policy give an answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapters.certificate import ClientName, PeerCertificate
from adapters.dicom.pdus import (
    APPLICATION_CONTEXT,
    AssociateRequest,
    ContextAnswer,
    ProposedContext,
    Roles,
)
from adapters.dicom.settings import DicomPeerSettings, DicomSourceSettings

ACCEPTANCE, USER_REJECTION, ABSTRACT_SYNTAX, TRANSFER_SYNTAXES = 0, 1, 3, 4
"""Results of a presentation context (PS3.8 table 9-18)."""

IMPLICIT_LITTLE, EXPLICIT_LITTLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), and its name for
    counting."""

    result: int
    source: int
    reason: int
    name: str


LIMIT_REACHED = Rejection(2, 3, 2, "rejected-limit")
CONGESTED = Rejection(2, 3, 1, "rejected-congestion")
_VERSION = Rejection(1, 2, 2, "rejected-protocol-version")
_APPLICATION_CONTEXT = Rejection(1, 1, 2, "rejected-application-context")
_CALLING = Rejection(1, 1, 3, "rejected-calling-title")
_CALLED = Rejection(1, 1, 7, "rejected-called-title")
_ADDRESS = Rejection(1, 1, 3, "rejected-address")
_CERTIFICATE = Rejection(1, 1, 3, "rejected-certificate")


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that stands, with its one transfer syntax."""

    number: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Negotiated:
    """An association that may stand: the answers for the peer, and what is agreed."""

    answers: tuple[ContextAnswer, ...]
    roles: dict[str, Roles]
    contexts: dict[int, AcceptedContext]


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call, and what is taken.

    ``syntaxes`` gives for each SOP class its transfer syntaxes in order of preference. A
    requestor may be provider (PS3.7 D.3.3.4) for ``provided_by_peers``, as C-GET needs it.
    """

    called: str
    require_called: bool
    calling: frozenset[str]
    peers: Mapping[str, tuple[DicomPeerSettings, ...]]
    only_peers: bool
    syntaxes: Mapping[str, Sequence[str]]
    provided_by_peers: frozenset[str] = field(default_factory=frozenset)
    for_peers: frozenset[str] = field(default_factory=frozenset)
    """SOP classes that only callers have whom ``peers`` names."""
    only_provided: frozenset[str] = field(default_factory=frozenset)
    """SOP classes that are taken only where the caller is their SCP."""

    @classmethod
    def of(
        cls,
        settings: DicomSourceSettings,
        syntaxes: Mapping[str, Sequence[str]],
        provided_by_peers: frozenset[str] = frozenset(),
        *,
        for_peers: frozenset[str] = frozenset(),
        only_provided: frozenset[str] = frozenset(),
    ) -> Policy:
        """The policy of a source."""
        peers: dict[str, tuple[DicomPeerSettings, ...]] = {}
        for peer in settings.peers:
            peers[peer.ae_title] = (*peers.get(peer.ae_title, ()), peer)
        return cls(
            settings.ae_title, settings.require_called_aet, frozenset(settings.calling_aets),
            peers, settings.only_peers, syntaxes, provided_by_peers, for_peers,
            only_provided,
        )  # fmt: skip

    def rejection(
        self, request: AssociateRequest, address: str, certificate: PeerCertificate | None
    ) -> Rejection | None:
        """Why an association must not be taken; None when it may."""
        if not request.version & 1:
            return _VERSION
        if request.application_context != APPLICATION_CONTEXT:
            return _APPLICATION_CONTEXT
        if self.require_called and request.called != self.called:
            return _CALLED
        if self.calling and request.calling not in self.calling:
            return _CALLING
        known = self.peers.get(request.calling)
        if known is None:
            return _CALLING if self.only_peers else None
        at_home = [peer for peer in known if calls_from(peer, address)]
        if not at_home:
            return _ADDRESS
        shown = any(_shows(peer, certificate) for peer in at_home)
        return None if shown else _CERTIFICATE

    def negotiate(self, request: AssociateRequest) -> Negotiated:
        """Answer each presentation context; the others stand although one is refused."""
        answers: list[ContextAnswer] = []
        contexts: dict[int, AcceptedContext] = {}
        roles: dict[str, Roles] = {}
        for proposed in request.contexts:
            answer = self._answer(proposed, request)
            answers.append(answer)
            if answer.result != ACCEPTANCE:
                continue
            uid = proposed.abstract_syntax
            contexts[proposed.number] = AcceptedContext(
                proposed.number, uid, answer.transfer_syntax
            )
            asked = request.roles.get(uid)
            if asked is not None:
                provides = asked.provider and uid in self.provided_by_peers
                roles[uid] = Roles(asked.user, provides)
        return Negotiated(tuple(answers), roles, contexts)

    def _answer(self, proposed: ProposedContext, request: AssociateRequest) -> ContextAnswer:
        taken = self.syntaxes.get(proposed.abstract_syntax)
        # The transfer syntax of a refusal has no meaning, but must be there (PS3.8 9.3.3.2).
        first = next((each for each in proposed.transfer_syntaxes if each.isascii()), "")
        if taken is None:
            return ContextAnswer(proposed.number, ABSTRACT_SYNTAX, first or IMPLICIT_LITTLE)
        if proposed.abstract_syntax in self.for_peers and request.calling not in self.peers:
            return ContextAnswer(proposed.number, USER_REJECTION, first or IMPLICIT_LITTLE)
        offered = proposed.transfer_syntaxes
        preferred: Sequence[str] = taken
        role = request.roles.get(proposed.abstract_syntax)
        provides = role is not None and role.provider
        if not provides and proposed.abstract_syntax in self.only_provided:
            return ContextAnswer(proposed.number, ABSTRACT_SYNTAX, first or IMPLICIT_LITTLE)
        if provides:
            # What it takes from us: the order is its own (PS3.8 says nothing of preference).
            preferred, offered = _explicit_first(offered), tuple(taken)
        chosen = next((syntax for syntax in preferred if syntax in offered), None)
        if chosen is None:
            return ContextAnswer(proposed.number, TRANSFER_SYNTAXES, first or IMPLICIT_LITTLE)
        return ContextAnswer(proposed.number, ACCEPTANCE, chosen)


def _explicit_first(syntaxes: Sequence[str]) -> Sequence[str]:
    """The order of a requestor, but explicit VR before implicit VR: most objects are kept so and
    then go as they are, and implicit VR would lose the representations of private attributes."""
    if IMPLICIT_LITTLE not in syntaxes or EXPLICIT_LITTLE not in syntaxes:
        return syntaxes
    at = min(syntaxes.index(IMPLICIT_LITTLE), syntaxes.index(EXPLICIT_LITTLE))
    others = [each for each in syntaxes if each not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE)]
    return [*others[:at], EXPLICIT_LITTLE, IMPLICIT_LITTLE, *others[at:]]


def calls_from(peer: DicomPeerSettings, address: str) -> bool:
    """Whether a peer may call from an address; one without addresses may from any."""
    if not peer.addresses:
        return True
    found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network) for network in peer.addresses)


def _shows(peer: DicomPeerSettings, certificate: PeerCertificate | None) -> bool:
    if not peer.certificates:
        return True
    return certificate is not None and any(
        ClientName.parse(name).names(certificate) for name in peer.certificates
    )
