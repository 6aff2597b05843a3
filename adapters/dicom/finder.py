"""C-FIND as SCU, study root (PS3.4 C.6.2): what another system holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapters.dicom.dictionary import tag_of, vr_of
from adapters.dicom.loading import load_pydicom
from adapters.dicom.outgoing import associate
from adapters.dicom.settings import DicomPeerSettings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MODEL = "1.2.840.10008.5.1.4.1.2.2.1"
RESULTS_MAX = 100_000
LEVELS = ("STUDY", "SERIES", "IMAGE")
RETURNED = {
    "STUDY": (
        "StudyInstanceUID", "StudyDate", "StudyTime", "ModalitiesInStudy", "AccessionNumber",
        "PatientID", "StudyDescription", "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    ),
    "SERIES": (
        "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
    ),
    "IMAGE": (
        "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "InstanceNumber",
    ),
}  # fmt: skip
"""What is asked to be returned when nothing else is named."""

_PENDING = frozenset({0xFF00, 0xFF01})


class FindRefused(Exception):
    """The other system ends the query with a failure; the message names the ``status``, and what
    it says of it."""

    def __init__(self, status: str, comment: str) -> None:
        super().__init__(f"status {status} {comment}".strip())
        self.status = status


def identifier(level: str, keys: Mapping[str, str]) -> Dataset:
    """The identifier of a query: ``keys`` are keywords with the value to match, or nothing.

    Raises ValueError for a level or a keyword that there is not.
    """
    load_pydicom()
    from pydicom.dataset import Dataset

    if level not in LEVELS:
        raise ValueError(f"{level}: one of {', '.join(LEVELS)} is expected")
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in {**dict.fromkeys(RETURNED[level], ""), **keys}.items():
        tag = tag_of(keyword)
        if tag is None:
            raise ValueError(f"{keyword}: the data dictionary has no such keyword")
        if vr_of(tag) == "SQ":
            raise ValueError(f"{keyword}: a sequence cannot be a key here")
        setattr(asked, keyword, value or None)
    asked.SpecificCharacterSet = "ISO_IR 192"
    return asked


def find(
    peer: DicomPeerSettings, own_title: str, level: str, keys: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """What matches, one mapping of keywords to values after the other.

    Raises ConnectionError, FindRefused, ValueError, and OverflowError after
    :data:`RESULTS_MAX` results.
    """
    asked = identifier(level, keys)
    with associate(peer, own_title, [MODEL], provides=False) as association:
        for number, (status, found) in enumerate(association.send_c_find(asked, MODEL)):
            if "Status" not in status:
                raise ConnectionError(f"{peer.ae_title} at {peer.connect} does not answer")
            if status.Status in _PENDING:
                if number >= RESULTS_MAX:
                    raise OverflowError(f"more than {RESULTS_MAX} results")
                yield _texts(found)
            elif status.Status != 0:
                comment = getattr(status, "ErrorComment", "") or ""
                raise FindRefused(f"0x{status.Status:04X}", comment)


def _texts(found: Any) -> dict[str, str]:
    return {
        element.keyword: "\\".join(map(str, element.value))
        if element.VM > 1
        else str(element.value if element.value is not None else "")
        for element in found or ()
        if element.keyword and element.VR != "SQ"
    }
