"""The formats that mappings read: how paths are written, how bytes are read, what is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.cda.deidentify import CdaDeidentifier
from adapters.cda.inventory import CdaInventory
from adapters.cda.language import CdaLanguage, CdaReader
from adapters.dicom.deidentify import DicomDeidentifier
from adapters.dicom.inventory import DicomInventory
from adapters.dicom.language import DicomLanguage, DicomReader
from adapters.hl7.deidentify import Hl7Deidentifier
from adapters.hl7.inventory import Hl7Inventory
from adapters.hl7.language import Hl7Language, Hl7Reader
from adapters.hprim.deidentify import HprimDeidentifier
from adapters.hprim.inventory import HprimInventory
from adapters.hprim.language import HprimLanguage, HprimReader
from gateway.inventory import Inventory
from gateway.masking import Deidentifier
from gateway.model import Format, Payload
from gateway.ports import Reader, SourceLanguage


def languages() -> dict[Format, SourceLanguage]:
    """How mappings read each format."""
    return {
        Format.HL7V2: Hl7Language(),
        Format.CDA: CdaLanguage(),
        Format.DICOM: DicomLanguage(),
        Format.HPRIM: HprimLanguage(),
    }


def readers() -> dict[Format, Reader]:
    """How the bytes of each format are read."""
    return {
        Format.HL7V2: Hl7Reader(),
        Format.CDA: CdaReader(),
        Format.DICOM: DicomReader(),
        Format.HPRIM: HprimReader(),
    }


def inventories() -> dict[Format, Inventory]:
    """What the messages of each format say, for the measure of retention."""
    return {
        Format.HL7V2: Hl7Inventory(),
        Format.CDA: CdaInventory(),
        Format.DICOM: DicomInventory(),
        Format.HPRIM: HprimInventory(),
    }


def deidentifiers() -> dict[Format, Deidentifier]:
    """What makes messages fit to leave the house, by format."""
    found: list[Deidentifier] = [
        Hl7Deidentifier(), CdaDeidentifier(), DicomDeidentifier(), HprimDeidentifier(),
    ]  # fmt: skip
    return {each.format: each for each in found}


def encoders() -> dict[Format, Callable[[str], Sequence[Payload]]]:
    """How the text of a mapping's test becomes a message, where text is not the format itself."""
    return {Format.DICOM: _study_files}


def _study_files(text: str) -> Sequence[Payload]:
    from adapters.dicom.notation import study_files

    return study_files(text)


SOURCE_TYPES = {
    Format.HL7V2: {"mllp", "hl7-http", "hl7-folder"},
    Format.DICOM: {"dicom", "dicomweb", "dicom-folder"},
    Format.CDA: {"cda-http", "cda-folder", "xdm-http", "xdm-folder", "xds", "imap", "smtp"},
    Format.HPRIM: {"hprim-http", "hprim-folder"},
}
"""The types of sources (``type:`` in the configuration) that bring messages of a format."""
