"""Why a file was refused, for the person who finds it: a line in French, one in English."""

from __future__ import annotations

import re
from collections.abc import Mapping

from adapters.doors.reception import Verdict
from gateway.model import Cause, CauseCode

_FRENCH = {
    CauseCode.FRAME_OVERSIZED: "le fichier est trop volumineux",
    CauseCode.FRAME_TRUNCATED: "le fichier est incomplet",
    CauseCode.NOT_THE_FORMAT: "ce fichier n'est pas du format attendu",
    CauseCode.REQUIRED_FIELD_MISSING: "une donnée obligatoire manque",
    CauseCode.UNSUPPORTED_TYPE: "ce type de message n'est pas pris en charge",
    CauseCode.UNSUPPORTED_VERSION: "cette version du format n'est pas prise en charge",
    CauseCode.CHARACTER_SET: "le jeu de caractères n'est pas celui qui est attendu",
    CauseCode.HOSTILE_CONTENT: "le contenu est dangereux ou dépasse une limite de sécurité",
    CauseCode.CONTENT_MISMATCH: "le contenu contredit ce que le fichier annonce",
    CauseCode.UNREADABLE: "le fichier est mal formé ou incomplet",
    CauseCode.FEEDING_OPPOSED: "le patient s'oppose à l'alimentation de son dossier",
    CauseCode.RECORD_CLOSED: "le dossier du patient est fermé",
    CauseCode.IDENTITY_INVALID: "l'identité du patient n'est pas valide",
}
_ENGLISH = {
    CauseCode.FEEDING_OPPOSED: "the patient opposes the feeding of the record",
    CauseCode.RECORD_CLOSED: "the patient's record is closed",
}
_PLACES = {"line": "ligne", "column": "colonne", "byte": "octet", "prolog": "prologue"}


def reason_text(
    cause: Cause,
    message_id: int,
    phrases: Mapping[CauseCode, str] | None = None,
    outcome: Verdict | None = None,
) -> str:
    """Two lines: what is wrong, where, and under which number the evidence is kept.

    ``phrases`` are a format's own French words. With an ``outcome`` of several messages
    the lines also say how many of them were refused.
    """
    french = (phrases or {}).get(cause.code) or _FRENCH.get(
        cause.code, f"le contenu a été refusé ({cause.code})"
    )
    english = cause.detail or _ENGLISH.get(cause.code, f"the content was refused ({cause.code})")
    place_fr = place_en = ""
    if cause.location:
        translated = re.sub(r"[a-z]+", lambda w: _PLACES.get(w[0], w[0]), cause.location)
        if cause.location.startswith("/"):
            translated = cause.location
        place_fr, place_en = f" ; endroit : {translated}", f"; place: {cause.location}"
    several_fr = several_en = ""
    total = outcome.accepted + outcome.refused if outcome is not None else 1
    if outcome is not None and total > 1:
        several_fr = f" ({outcome.refused} message(s) sur {total} ; le premier :)"
        several_en = f" ({outcome.refused} of {total} messages; the first:)"
    return (
        f"Refusé{several_fr} : {french}{place_fr}."
        f" Message n° {message_id}, motif « {cause.code} ».\n"
        f"Refused{several_en}: {english}{place_en}."
        f" Message no. {message_id}, cause “{cause.code}”.\n"
    )
