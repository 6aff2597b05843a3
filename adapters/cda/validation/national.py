"""What the official rules do not look at and the national record refuses.

CI-SIS, volet Structuration minimale 1.16.8 (identifiers, times, identity, body), and the
errors 903 to 905 of the volet «Transmission d'un document CDA-R2 en HL7 v2». Each rule has
a code and says in French what is wrong and what to do. No value of a patient is repeated.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator

from lxml import etree

from adapters.cda.document import Document
from adapters.cda.header import INS_ROOTS
from adapters.cda.structure import V3
from adapters.cda.transmitted import missing_traits
from adapters.cda.validation.findings import Finding, Level
from adapters.cda.validation.places import line_of, place
from gateway import ins

ORIGIN = "Écluse"
OID_MAX = 64
HEAD_CHARACTERS = 4096
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+", re.ASCII)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
_HOUR_WITHOUT_ZONE = re.compile(r"[0-9]{9,14}(?:\.[0-9]+)?", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*", re.ASCII)
_NOT_INS = {
    "1.2.250.1.213.1.4.13": "la racine d'un numéro de sécurité sociale (…1.4.13)",
    "1.2.250.1.213.1.4.2": "la racine de l'ancien INS-C (…1.4.2)",
}
_MAGIC: dict[str, tuple[bytes, ...]] = {
    "application/pdf": (b"%PDF-",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/tiff": (b"II*\0", b"MM\0*"),
    "text/rtf": (b"{\\rtf",),
    "image/png": (b"\x89PNG",),
}
_BODY_TYPES = frozenset({"application/pdf", "image/jpeg", "image/tiff", "text/rtf", "text/plain"})
_WORDS = {
    "name/family[@qualifier=BR]": "nom de naissance (family, qualifier BR)",
    "name/given": "prénoms de naissance (given)",
    "administrativeGenderCode": "sexe (administrativeGenderCode)",
    "birthTime": "date de naissance (birthTime)",
    "birthplace/place/addr/county": "code INSEE du lieu de naissance (birthplace/…/county)",
    "patient": "patient",
}
_FAULTS = {
    ins.InsFault.LENGTH: "il faut 15 caractères : 13 et une clé de 2",
    ins.InsFault.CHARACTERS: "il contient un caractère qui n'est pas admis",
    ins.InsFault.ZERO: "il ne contient que des zéros",
    ins.InsFault.KEY: "la clé ne correspond pas au numéro",
}


def check(document: Document) -> list[Finding]:
    """Every finding of our own rules, in their order."""
    return [finding for rule in RULES for finding in rule(document)]


def _v3(path: str) -> str:
    return "/".join(f"{{{V3}}}{step}" for step in path.split("/"))


def _found(rule: str, text: str, at: etree._Element, attribute: str = "", *,
           level: Level = Level.ERROR) -> Finding:  # fmt: skip
    return Finding(origin=ORIGIN, rule=rule, level=level, text=text,
                   xpath=place(at, attribute), line=line_of(at))  # fmt: skip


# --- the patient's identity -------------------------------------------------------------


def _identity(document: Document) -> Iterator[Finding]:
    role = document.root.find(_v3("recordTarget/patientRole"))
    if role is None:
        return
    identifiers = role.findall(_v3("id"))
    national = [each for each in identifiers if (each.get("root") or "").strip() in INS_ROOTS]
    for each in identifiers:
        root, value = (each.get("root") or "").strip(), (each.get("extension") or "").strip()
        if root in _NOT_INS:
            yield _found(
                "INS-RACINE",
                f"L'identifiant du patient porte {_NOT_INS[root]}, qui n'est pas une INS. "
                "Utiliser la racine de l'INS-NIR (…1.4.8) ou de l'INS-NIA (…1.4.9).",
                each, "root",
            )  # fmt: skip
        elif each in national:
            fault = ins.fault(value)
            if fault is not None:
                yield _found(
                    "INS-CLE",
                    f"Le matricule INS n'est pas valide : {_FAULTS[fault]}.", each, "extension",
                )  # fmt: skip
    if not national and not any(each.get("root") in _NOT_INS for each in identifiers):
        yield _found(
            "INS-ABSENTE",
            "Le patient n'a pas de matricule INS : le document ne peut pas entrer dans le DMP "
            "(erreur 903).",
            role, level=Level.WARNING,
        )  # fmt: skip
        return
    missing = list(missing_traits(document.root))
    if missing:
        yield _found(
            "INS-TRAITS",
            "Une INS est présente et les traits d'identité sont incomplets (erreur 905). Il "
            f"manque : {', '.join(_WORDS.get(each, each) for each in missing)}.",
            role,
        )  # fmt: skip


# --- identifiers and versions -----------------------------------------------------------


def _document_id(document: Document) -> Iterator[Finding]:
    own = document.root.find(_v3("id"))
    if own is None:
        return
    if own.get("extension") is not None:
        yield _found(
            "ID-EXTENSION",
            "L'identifiant du document a un attribut extension, que le DMP refuse : mettre "
            "l'OID complet dans root et retirer extension.",
            own, "extension",
        )  # fmt: skip
    if _UUID.fullmatch((own.get("root") or "").strip()):
        yield _found(
            "ID-OID",
            "L'identifiant du document est un UUID ; un OID est demandé.", own, "root",
        )  # fmt: skip


def _oids(document: Document) -> Iterator[Finding]:
    for element in document.root.iter(etree.Element):
        for attribute in ("root", "codeSystem"):
            value = (element.get(attribute) or "").strip()
            if not value or _UUID.fullmatch(value):
                continue
            if len(value) > OID_MAX:
                text = f"L'OID a {len(value)} caractères ; {OID_MAX} au plus sont admis."
            elif _OID.fullmatch(value) is None:
                text = (
                    "Ceci n'est pas un OID : des nombres séparés par des points, sans zéro au "
                    "début d'un nombre."
                )
            else:
                continue
            # An identifier in the body stays in the document; one in the header is the record's.
            level = Level.WARNING if _in_body(document, element) else Level.ERROR
            yield _found("OID", text, element, attribute, level=level)


def _replacement(document: Document) -> Iterator[Finding]:
    root = document.root
    version = root.find(_v3("versionNumber"))
    number = (version.get("value") or "").strip() if version is not None else ""
    related = root.findall(_v3("relatedDocument"))
    for each in related:
        parent = each.find(_v3("parentDocument/id"))
        if parent is None or not (parent.get("root") or "").strip():
            yield _found(
                "PARENT-ID",
                "Le document en remplace ou en complète un autre (relatedDocument) et ne dit pas "
                "lequel : il manque parentDocument/id.",
                each,
            )  # fmt: skip
            continue
        if parent.get("extension") is not None:
            yield _found(
                "PARENT-EXTENSION",
                "L'identifiant du document remplacé a un attribut extension, que le DMP refuse.",
                parent, "extension", level=Level.WARNING,
            )  # fmt: skip
        own = root.find(_v3("id"))
        if own is not None and sorted(own.items()) == sorted(parent.items()):
            yield _found(
                "PARENT-MEME",
                "Le document dit se remplacer lui-même : une nouvelle version a un nouvel "
                "identifiant.",
                parent, "root",
            )  # fmt: skip
    replaces = any(each.get("typeCode") == "RPLC" for each in related)
    if version is not None and number.isdecimal() and int(number) > 1 and not replaces:
        yield _found(
            "PARENT-ABSENT",
            "Le numéro de version est supérieur à 1 et le document ne dit pas lequel il remplace "
            "(relatedDocument de type RPLC) : le DMP ne retirera pas la version précédente.",
            version, "value", level=Level.WARNING,
        )  # fmt: skip


def _in_body(document: Document, element: etree._Element) -> bool:
    for above in element.iterancestors(f"{{{V3}}}component"):
        if above.getparent() is document.root:
            return True
    return False


# --- times, text, transport -------------------------------------------------------------


def _times(document: Document) -> Iterator[Finding]:
    for element in document.root.iter(
        *(f"{{{V3}}}{name}" for name in ("effectiveTime", "time", "low", "high", "center"))
    ):
        value = (element.get("value") or "").strip()
        if "unit" in element.attrib or not _HOUR_WITHOUT_ZONE.fullmatch(value):
            continue
        yield _found(
            "HEURE-FUSEAU",
            "La date porte une heure sans décalage horaire : ajouter +0100, +0200… selon le lieu.",
            element, "value",
            level=Level.WARNING if _in_body(document, element) else Level.ERROR,
        )  # fmt: skip


def _transport(document: Document) -> Iterator[Finding]:
    root = document.root
    if document.encoding not in ("utf-8", "ascii"):
        yield _found(
            "ENCODAGE",
            f"Le document est en {document.encoding} ; le CI-SIS demande l'UTF-8.", root,
        )  # fmt: skip
    if root.get("{http://www.w3.org/2001/XMLSchema-instance}schemaLocation") is not None:
        yield _found(
            "SCHEMA-LOCATION",
            "L'attribut xsi:schemaLocation ne doit pas être présent.", root, level=Level.INFO,
        )  # fmt: skip
    with document.payload.open() as stream:
        head = stream.read(1 << 16)
    start = head.find(b"ClinicalDocument")
    if document.form == "plain" and b"<?xml-stylesheet" in head[: start if start > 0 else None]:
        yield _found(
            "FEUILLE-DE-STYLE",
            "Le document renvoie à une feuille de style externe, que le DMP refuse et qu'Écluse "
            "n'ouvre pas : retirer l'instruction xml-stylesheet.",
            root, level=Level.WARNING,
        )  # fmt: skip
    confidential = root.find(_v3("confidentialityCode"))
    if confidential is not None and confidential.get("code") in ("R", "V"):
        yield _found(
            "CONFIDENTIALITE",
            "Un document de confidentialité R ou V n'est pas destiné au DMP.",
            confidential, "code", level=Level.WARNING,
        )  # fmt: skip


# --- what is inside ---------------------------------------------------------------------


def _body(document: Document) -> Iterator[Finding]:
    text = document.root.find(_v3("component/nonXMLBody/text"))
    if text is not None:
        media = (text.get("mediaType") or "").strip()
        if media not in _BODY_TYPES:
            yield _found(
                "CORPS-TYPE",
                "Le type du corps (mediaType) n'est pas admis : PDF, JPEG, TIFF, RTF ou texte.",
                text, "mediaType",
            )  # fmt: skip
        yield from _content(text)
    for value in document.root.iter(f"{{{V3}}}value"):
        above = value.getparent()
        if above is not None and above.tag == f"{{{V3}}}observationMedia":
            yield from _content(value)


def _content(element: etree._Element) -> Iterator[Finding]:
    if element.get("representation") != "B64" or element.find(_v3("reference")) is not None:
        return
    media = (element.get("mediaType") or "").strip()
    text = element.text or ""
    if not text.strip():
        yield _found("CONTENU-VIDE", "Le contenu joint est vide.", element)
        return
    head = _decoded("".join(text[:HEAD_CHARACTERS].split()))
    if head is None or _BASE64.fullmatch(text) is None:
        yield _found("BASE64", "Le contenu joint n'est pas en Base64.", element)
        return
    wanted = _MAGIC.get(media)
    # ISO 32000-1, Annex H.3.4.1: readers look for the header in the first 1024 bytes.
    pdf = media == "application/pdf"
    if wanted and not (b"%PDF-" in head[:1024] if pdf else head.startswith(wanted)):
        yield _found(
            "PDF" if pdf else "CONTENU-TYPE",
            "Le contenu annoncé comme PDF n'est pas un PDF."
            if pdf
            else "Le contenu joint n'est pas du type annoncé (mediaType).",
            element, "mediaType", level=Level.ERROR if pdf else Level.WARNING,
        )  # fmt: skip
    elif pdf and b"%%EOF" not in _tail(text):
        yield _found("PDF-TRONQUE", "Le PDF joint est incomplet : sa fin manque.", element)


def _decoded(text: str) -> bytes | None:
    whole = text[: len(text) // 4 * 4] or text + "=" * (-len(text) % 4)
    try:
        return base64.b64decode(whole)
    except (binascii.Error, ValueError):
        return None


def _tail(text: str) -> bytes:
    """The last bytes, whatever the padding and the place where the text is cut."""
    end = "".join(text[-2 * HEAD_CHARACTERS :].split()).rstrip("=")
    found = b""
    for skip in range(4):
        part = end[skip:]
        found += _decoded(part + "=" * (-len(part) % 4)) or b""
    return found


RULES: tuple[Callable[[Document], Iterator[Finding]], ...] = (
    _identity, _document_id, _oids, _replacement, _times, _transport, _body,
)  # fmt: skip
