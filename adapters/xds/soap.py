"""SOAP 1.2 envelopes with WS-Addressing headers: read with suspicion, written plainly.

SOAP 1.2 Part 1 section 5; WS-Addressing 1.0 Core section 3 and SOAP Binding sections 3 and 6;
ITI TF-2 Appendix V (V.3: what IHE's web services must have).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from lxml import etree

from adapters.ebrim.faults import Refused
from adapters.ebrim.xml import XmlLimits, parsed
from adapters.xds.faults import SoapFault, hostile
from gateway.model import CauseCode

SOAP = "http://www.w3.org/2003/05/soap-envelope"
SOAP_1_1 = "http://schemas.xmlsoap.org/soap/envelope/"
WSA = "http://www.w3.org/2005/08/addressing"
XOP_INCLUDE = "{http://www.w3.org/2004/08/xop/include}Include"
MEDIA_TYPE = "application/soap+xml"
FAULT_ACTION = f"{WSA}/soap/fault"
TEXT_MAX = 1024

_S = f"{{{SOAP}}}"
_A = f"{{{WSA}}}"
_ANONYMOUS = frozenset({f"{WSA}/anonymous", ""})
_TRUE = frozenset({"true", "1"})
_MINE = frozenset(
    {"", f"{SOAP}/role/next", f"{SOAP}/role/ultimateReceiver"}
)  # roles of the ultimate receiver: SOAP 1.2 Part 1 section 2.2
_ONCE = ("Action", "MessageID", "To", "ReplyTo", "FaultTo", "From")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``message_id`` is empty where the sender gave none; ``body`` is the one
    element in the body."""

    action: str
    message_id: str
    body: etree._Element


def read_envelope(
    data: bytes, *, bytes_max: int, passed_over: Collection[str] = (), action: str = ""
) -> Request:
    """Read one envelope. ``passed_over`` are namespaces of headers that need not be understood,
    ``action`` what the transport says.

    Raises SoapFault, with the message's id in ``relates_to`` as soon as it is known.
    """
    try:
        root = parsed(data, "the SOAP envelope", "", XmlLimits(bytes_max, depth_max=60))
    except Refused as refused:
        code = refused.cause.code
        unreadable = code is CauseCode.REQUIRED_FIELD_MISSING
        raise SoapFault(
            refused.detail, cause=CauseCode.UNREADABLE if unreadable else code
        ) from None
    _check_version(root)
    parts = [each for each in root if isinstance(each.tag, str)]
    header = parts.pop(0) if parts and parts[0].tag == f"{_S}Header" else None
    if len(parts) != 1 or parts[0].tag != f"{_S}Body":
        raise SoapFault("the SOAP envelope has no Body, or something beside it")
    blocks = list(header) if header is not None else []
    said = _addressing(blocks)
    try:
        _check_understood(blocks, passed_over)
        _check_addressing(said, blocks, action)
        bodies = list(parts[0])
        if len(bodies) != 1:
            raise SoapFault("the Body of the SOAP envelope does not hold exactly one element")
    except SoapFault as fault:
        fault.relates_to = said.get("MessageID", "")
        raise
    return Request(said["Action"], said.get("MessageID", ""), bodies[0])


def _check_version(root: etree._Element) -> None:
    name = etree.QName(root)
    if name.localname != "Envelope":
        raise SoapFault("the message is no SOAP envelope")
    if name.namespace != SOAP:
        fault = SoapFault("only SOAP 1.2 is spoken here", code="VersionMismatch")
        fault.soap_1_1 = name.namespace == SOAP_1_1
        raise fault


def _check_understood(blocks: list[etree._Element], passed_over: Collection[str]) -> None:
    """SOAP 1.2 Part 1 sections 2.4 and 5.2.3."""
    for block in blocks:
        name = etree.QName(block)
        must = (block.get(f"{_S}mustUnderstand") or "").strip() in _TRUE
        mine = (block.get(f"{_S}role") or "").strip() in _MINE
        if must and mine and name.namespace != WSA and name.namespace not in passed_over:
            raise SoapFault(
                "a header block that must be understood is not understood here",
                code="MustUnderstand",
                not_understood=((name.namespace or "")[:TEXT_MAX], name.localname[:TEXT_MAX]),
                cause=CauseCode.UNSUPPORTED_TYPE,
            )


def _addressing(blocks: list[etree._Element]) -> dict[str, str]:
    said: dict[str, str] = {}
    for block in blocks:
        name = etree.QName(block)
        if name.namespace == WSA and name.localname in _ONCE:
            text = block.findtext(f"{_A}Address") if len(block) else block.text
            said.setdefault(name.localname, (text or "").strip()[:TEXT_MAX])
    if not said.get("MessageID", "").isprintable():
        said["MessageID"] = ""
    return said


def _check_addressing(
    said: dict[str, str], blocks: list[etree._Element], transport_action: str
) -> None:
    """WS-Addressing SOAP Binding sections 6.4.1.1 (cardinality), 6.4.1.3, 6.4.1.6 and 6.4.1.7."""
    names = [block.tag for block in blocks]
    for name in _ONCE:
        if names.count(f"{_A}{name}") > 1:
            raise SoapFault(
                f"the header {name} stands there twice",
                subcode="wsa:InvalidAddressingHeader",
                cause=CauseCode.UNREADABLE,
            )
    if not said.get("Action"):
        raise SoapFault(
            "the header Action of WS-Addressing is needed",
            subcode="wsa:MessageAddressingHeaderRequired",
            cause=CauseCode.REQUIRED_FIELD_MISSING,
        )
    if transport_action and transport_action != said["Action"]:
        raise SoapFault(
            "the action of the Content-Type is not that of the header",
            subcode="wsa:ActionMismatch",
            cause=CauseCode.CONTENT_MISMATCH,
        )
    for name in ("ReplyTo", "FaultTo"):
        if said.get(name, "") not in _ANONYMOUS:
            # An answer to an address of the sender's choice would be a door into other networks.
            raise SoapFault(
                f"answers go back on the same connection only: {name} must be anonymous",
                subcode="wsa:OnlyAnonymousAddressSupported",
                cause=CauseCode.UNSUPPORTED_TYPE,
            )


def action_not_supported() -> SoapFault:
    """WS-Addressing SOAP Binding section 6.4.2."""
    return SoapFault(
        "this endpoint has no such action, or the body is not that of the action",
        subcode="wsa:ActionNotSupported",
        cause=CauseCode.UNSUPPORTED_TYPE,
    )


def packed_only_once(element: etree._Element) -> str | None:
    """The address of an element's one ``xop:Include``; None where it has no child.

    Raises SoapFault for anything else (XOP 1.0 section 2.1).
    """
    children = [each for each in element if isinstance(each.tag, str)]
    if not children:
        return None
    if len(children) != 1 or children[0].tag != XOP_INCLUDE or (element.text or "").strip():
        raise hostile("a Document holds something beside one xop:Include")
    return children[0].get("href") or ""


def write_envelope(body: etree._Element, *, action: str, relates_to: str = "") -> bytes:
    """An answer's envelope."""
    envelope = etree.Element(f"{_S}Envelope", nsmap={"s": SOAP, "a": WSA})
    header = etree.SubElement(envelope, f"{_S}Header")
    block = etree.SubElement(header, f"{_A}Action")
    block.set(f"{_S}mustUnderstand", "true")
    block.text = action
    etree.SubElement(header, f"{_A}MessageID").text = f"urn:uuid:{uuid.uuid4()}"
    if relates_to:
        etree.SubElement(header, f"{_A}RelatesTo").text = relates_to
    etree.SubElement(envelope, f"{_S}Body").append(body)
    return _written(envelope)


def write_fault(fault: SoapFault) -> tuple[bytes, str]:
    """A fault's envelope, and its media type.

    To a SOAP 1.1 message the answer is one of SOAP 1.1 (SOAP 1.2 Part 1 appendix A).
    """
    if fault.soap_1_1:
        return _fault_1_1(fault), "text/xml"
    element = etree.Element(f"{_S}Fault")
    code = etree.SubElement(element, f"{_S}Code")
    etree.SubElement(code, f"{_S}Value").text = f"s:{fault.code}"
    if fault.subcode:
        subcode = etree.SubElement(code, f"{_S}Subcode")
        etree.SubElement(subcode, f"{_S}Value").text = fault.subcode.replace("wsa:", "a:")
    reason = etree.SubElement(element, f"{_S}Reason")
    text = etree.SubElement(reason, f"{_S}Text")
    text.set("{http://www.w3.org/XML/1998/namespace}lang", "en")
    text.text = str(fault)
    whole = write_envelope(element, action=FAULT_ACTION, relates_to=fault.relates_to)
    if fault.code not in ("VersionMismatch", "MustUnderstand"):
        return whole, MEDIA_TYPE
    envelope = etree.fromstring(whole)
    header = envelope[0]
    if fault.not_understood is not None:
        namespace, name = fault.not_understood
        block = etree.SubElement(header, f"{_S}NotUnderstood", nsmap={"q": namespace or "urn:none"})
        block.set("qname", f"q:{name}")
    else:
        _upgrade(header)
    return _written(envelope), MEDIA_TYPE


def _upgrade(parent: etree._Element) -> None:
    """SOAP 1.2 Part 1 section 5.4.7."""
    upgrade = etree.SubElement(parent, f"{_S}Upgrade")
    supported = etree.SubElement(upgrade, f"{_S}SupportedEnvelope", nsmap={"ns1": SOAP})
    supported.set("qname", "ns1:Envelope")


def _fault_1_1(fault: SoapFault) -> bytes:
    old = f"{{{SOAP_1_1}}}"
    envelope = etree.Element(f"{old}Envelope", nsmap={"e": SOAP_1_1, "s": SOAP})
    _upgrade(etree.SubElement(envelope, f"{old}Header"))
    element = etree.SubElement(etree.SubElement(envelope, f"{old}Body"), f"{old}Fault")
    etree.SubElement(element, "faultcode").text = "e:VersionMismatch"
    etree.SubElement(element, "faultstring").text = str(fault)
    return _written(envelope)


def _written(envelope: etree._Element) -> bytes:
    return etree.tostring(envelope, encoding="UTF-8", xml_declaration=True)
