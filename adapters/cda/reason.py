"""Why a file was refused, for the person who finds it: a line in French, one in English."""

from __future__ import annotations

import re

from gateway.model import Cause, CauseCode

_FRENCH = {
    CauseCode.FRAME_OVERSIZED: "le fichier est trop volumineux",
    CauseCode.NOT_THE_FORMAT: "ce fichier n'est pas un document CDA R2",
    CauseCode.REQUIRED_FIELD_MISSING: "une donnée obligatoire du document manque",
    CauseCode.UNSUPPORTED_VERSION: "ce document n'est pas en CDA version 2 (R2)",
    CauseCode.CHARACTER_SET: "le jeu de caractères n'est pas celui qui est annoncé, "
    "ou n'est pas accepté (UTF-8 attendu)",
    CauseCode.HOSTILE_CONTENT: "le contenu est dangereux ou dépasse une limite de sécurité",
    CauseCode.UNREADABLE: "le fichier XML est mal formé ou incomplet",
    CauseCode.FEEDING_OPPOSED: "le patient s'oppose à l'alimentation de son dossier",
    CauseCode.RECORD_CLOSED: "le dossier du patient est fermé",
    CauseCode.IDENTITY_INVALID: "l'identité du patient n'est pas valide",
}
_ENGLISH = {
    CauseCode.FEEDING_OPPOSED: "the patient opposes the feeding of the record",
    CauseCode.RECORD_CLOSED: "the patient's record is closed",
}
_PLACES = {"line": "ligne", "column": "colonne", "byte": "octet", "prolog": "prologue"}


def reason_text(cause: Cause, message_id: int) -> str:
    """Two lines: what is wrong, where, and under which number the evidence is kept."""
    french = _FRENCH.get(cause.code, f"le document a été refusé ({cause.code})")
    english = cause.detail or _ENGLISH.get(cause.code, f"the document was refused ({cause.code})")
    place_fr = place_en = ""
    if cause.location:
        translated = re.sub(r"[a-z]+", lambda w: _PLACES.get(w[0], w[0]), cause.location)
        if cause.location.startswith("/"):
            translated = cause.location
        place_fr, place_en = f" ; endroit : {translated}", f"; place: {cause.location}"
    return (
        f"Refusé : {french}{place_fr}. Message n° {message_id}, motif « {cause.code} ».\n"
        f"Refused: {english}{place_en}. Message no. {message_id}, cause “{cause.code}”.\n"
    )
