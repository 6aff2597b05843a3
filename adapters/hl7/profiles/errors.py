"""Codes of the CI-SIS for what is wrong with a request about a document.

Volets «Transmission d'un document CDA-R2 en HL7v2» 2.1 and «Transmission au LPS de documents
CDA provenant d'un courriel MSSanté» 1.1, table applicationErrorCondition: ERR-3 is then 207
(application error) and ERR-5 says which. The table is open; 906 is for the rest.
"""

from __future__ import annotations

APPLICATION_TABLE = "applicationErrorCondition"
MESSAGE_TABLE = "messageErrorCondition"
"""Symbolic name of HL7 table 0357, which the CI-SIS writes in ERR-3.3."""

WRONG_VERSION = "900"
AUTHOR_NOT_ALLOWED = "901"
UNKNOWN_PATIENT = "902"
INS_ABSENT = "903"
INS_DIFFERENT = "904"
INS_INCOMPLETE = "905"
OTHER = "906"

APPLICATION_ERRORS = {
    WRONG_VERSION: "Version du document incorrecte lors d'une demande de remplacement/suppression",
    AUTHOR_NOT_ALLOWED: "Auteur non autorisé à remplacer ou supprimer un document",
    UNKNOWN_PATIENT: "Identifiant patient inconnu",
    INS_ABSENT: "INS non présent dans le document",
    INS_DIFFERENT: "L'INS transmis ne correspond pas exactement",
    INS_INCOMPLETE: "L'INS transmis n'est pas complet",
    OTHER: "Autre erreur applicative",
}
