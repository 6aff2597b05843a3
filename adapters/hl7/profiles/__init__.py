"""What a message's own profile (MSH-21) demands of it before it is acknowledged.

A profile is looked up by the namespace in MSH-21.2. A message that names none that is
known here costs one look at MSH-21 and nothing else.
"""

from __future__ import annotations

from adapters.hl7.charset import Charset
from adapters.hl7.continuation import joined_alone
from adapters.hl7.header import Header
from adapters.hl7.message import Message
from adapters.hl7.profiles import coherence, documents
from adapters.hl7.profiles.errors import INS_DIFFERENT
from adapters.hl7.profiles.transmission import FAMILIES, ProfileVersion, Refusal, read_request
from gateway.documents import DocumentHeaders
from gateway.model import Cause, CauseCode, Identifier
from gateway.ports import Unreadable

__all__ = ["BYTES_MAX", "ProfileChecks", "in_words_of_the_profile", "named_profile"]

BYTES_MAX = 8 << 20
"""Default size up to which the documents inside a message are looked into at the door."""


class ProfileChecks:
    """The checks of one source. Callable from any thread; keeps nothing.

    ``headers`` reads the header of a document inside a message; without it, and for
    messages beyond ``bytes_max``, only the message around the document is judged.
    """

    def __init__(self, headers: DocumentHeaders | None, bytes_max: int = BYTES_MAX) -> None:
        self._headers = headers
        self._bytes_max = bytes_max

    def refusal(
        self,
        payload: bytes,
        header: Header,
        charset: Charset,
        subject: tuple[Identifier, ...],
    ) -> Cause | None:
        """Why the profile refuses a message, or None: it does not, or there is no profile.

        ``subject`` are the identifiers of PID-3. A message that cannot be read is left to
        the stage that reads it.
        """
        profile = named_profile(header)
        if profile is None:
            return None
        try:
            message = Message.read(joined_alone(payload), encoding=charset.name)
        except Unreadable:
            return None
        headers = self._headers if len(payload) <= self._bytes_max else None
        try:
            request = read_request(message, profile)
            coherence.check(request)
            documents.check(request, subject, headers)
        except Refusal as refusal:
            return refusal.cause
        return None


def named_profile(header: Header) -> ProfileVersion | None:
    """The profile that MSH-21 names, if one of its repetitions names one that is known."""
    delimiters = header.delimiters
    for repetition in header.whole(21).split(delimiters.repetition):
        version, _, rest = repetition.partition(delimiters.component)
        family = rest.split(delimiters.component, 1)[0].strip()
        if family in FAMILIES:
            return ProfileVersion.of(family, version)
    return None


def in_words_of_the_profile(header: Header, cause: Cause | None) -> Cause | None:
    """The cause with the profile's own code, where the gateway found after the door what its
    table applicationErrorCondition has a code for: 904, the INS and what stands beside it are not
    as they are held here. Others, and those of messages without the profile, stay as they are."""
    if cause is None or cause.code is not CauseCode.IDENTITY_CONFLICT:
        return cause
    if named_profile(header) is None:
        return cause
    return Cause(
        code=cause.code,
        detail=cause.detail,
        location=cause.location,
        protocol_code=INS_DIFFERENT,
    )
