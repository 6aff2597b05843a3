"""The dialects of the manifest, and what each demands before there is one."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.dicom.manifest import DESCRIBED_MANIFEST, MANIFEST, Code

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One dialect.

    ``national_identity``: the patient is identified by the national identifier and by nothing
    else. ``after_report``: there is no manifest before the report. ``issued_accession``: each
    accession number must have an issuer with an OID, and there must be one.
    ``accession_in_study``: a single accession number stands in the study as well.
    ``described``: with the Image Library of TID 1600. ``urls``, ``locations``: retrieval by
    Retrieve URL (0008,1190), by Retrieve AE Title with Retrieve Location UID (0040,E011).
    ``numbers``: series and instance numbers beside the references.
    """

    name: str
    title: Code
    transfer_syntax: str
    character_set: str
    series_number: str
    national_identity: bool = False
    after_report: bool = False
    issued_accession: bool = False
    accession_in_study: bool = True
    described: bool = False
    template: bool = True
    urls: bool = True
    locations: bool = False
    numbers: bool = False
    dated_series: bool = False
    summary: bool = False


DRIM_M = Profile(
    name="drim-m",
    title=MANIFEST,
    transfer_syntax=IMPLICIT_LITTLE_ENDIAN,
    character_set="ISO_IR 100",
    series_number="59",
    national_identity=True,
    after_report=True,
    issued_accession=True,
    accession_in_study=False,
    template=False,
    locations=True,
    numbers=True,
    dated_series=True,
    summary=True,
)
"""France, Ségur DRIM-M. The report triggers it, the INS identifies the patient, the accession
number stands in the Referenced Request Sequence alone (the published manifests)."""

MADO = Profile(
    name="mado",
    title=DESCRIBED_MANIFEST,
    transfer_syntax=EXPLICIT_LITTLE_ENDIAN,
    character_set="ISO_IR 192",
    series_number="1",
    issued_accession=True,
    described=True,
    locations=True,
)
"""IHE RAD MADO, trial implementation (6.X.2), and the European manifest that builds on it."""

ELGA = Profile(
    name="elga",
    title=MANIFEST,
    transfer_syntax=EXPLICIT_LITTLE_ENDIAN,
    character_set="ISO_IR 192",
    series_number="1",
    urls=False,
    locations=True,
)
"""Austria: TID 2010, retrieval by AE title and location UID."""

PROFILES = {each.name: each for each in (DRIM_M, MADO, ELGA)}


UID_ROOT = "2.25"
UID_ROOT_MAX = 24
"""Characters of a root, so that 39 digits fit behind it (64 in all, PS3.5 9.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who makes manifests and where its instances are had.

    ``institution`` may be an XON (``name^^^^^^^^^identifier``). ``retrieve_url`` is the base of the
    WADO-RS service, ``report_url`` that of the FHIR service at which reports are had, both without
    a slash at their end. Empty is unknown.
    """

    manufacturer: str = "Écluse"
    institution: str = ""
    retrieve_url: str = ""
    retrieve_ae_title: str = ""
    retrieve_location_uid: str = ""
    report_url: str = ""
    uid_root: str = UID_ROOT
