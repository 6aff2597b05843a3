"""What the SCP negotiates: SOP classes (PS3.4 B.5), transfer syntaxes (PS3.5 annex A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from adapters.dicom.dictionary import UIDS

UNCOMPRESSED = (
    "1.2.840.10008.1.2.1",  # explicit VR little endian: says what it holds
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.1.98",
)

_PIXELS_ELSEWHERE = frozenset(
    {
        "1.2.840.10008.1.2.4.94",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.204",
        "1.2.840.10008.1.2.4.205",
    }
)
"""JPIP: the object names an address of its pixels instead of holding them."""
_IMAGE_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_STORAGE_ELSEWHERE = frozenset({"1.2.840.10008.5.1.4.34.7", "1.2.840.10008.5.1.4.34.10"})
"""Instructions of a patient's radiotherapy, under a root of their own."""
_STORAGE_SINCE = frozenset(
    f"{_IMAGE_STORAGE_ROOT}{each}" for each in ("9.100.1", "9.100.2", "66.7", "66.8")
)
"""Presentation states of waveforms, and segmentations by label and height maps: the standard has
them since later editions than the dictionary's."""
_NO_PATIENT = (f"{_IMAGE_STORAGE_ROOT}200.", f"{_IMAGE_STORAGE_ROOT}201.")


def storage_classes() -> tuple[str, ...]:
    """Every storage SOP class of a patient that the standard has, retired ones too, sorted."""
    known = {
        uid
        for uid, (name, kind, *_) in UIDS.items()
        if kind == "SOP Class" and "Storage" in name and uid.startswith(_IMAGE_STORAGE_ROOT)
    }
    found = known | _STORAGE_SINCE | _STORAGE_ELSEWHERE
    return tuple(sorted(uid for uid in found if not uid.startswith(_NO_PATIENT)))


def transfer_syntaxes() -> tuple[str, ...]:
    """Every transfer syntax that carries its pixels, uncompressed ones first."""
    known = {
        uid
        for uid, (_, kind, _, retired, _) in UIDS.items()
        if kind == "Transfer Syntax" and not retired and uid not in _PIXELS_ELSEWHERE
    }
    others = known.difference(UNCOMPRESSED)
    return (*UNCOMPRESSED, *sorted(others, key=lambda uid: [int(each) for each in uid.split(".")]))


VERIFICATION = "1.2.840.10008.1.1"


@lru_cache(maxsize=16)
def _storage(classes: tuple[str, ...], syntaxes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(classes, syntaxes)


def accepted_syntaxes(
    classes: Sequence[str] = (),
    syntaxes: Sequence[str] = (),
    by_class: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, tuple[str, ...]]:
    """For verification and each storage class the transfer syntaxes that are taken.

    Empty means all. When a sender offers several in one context, the first of ours wins.
    ``by_class`` has lists of their own for some classes.
    """
    found: dict[str, tuple[str, ...]] = {VERIFICATION: UNCOMPRESSED}
    found |= _storage(tuple(classes) or storage_classes(), tuple(syntaxes) or transfer_syntaxes())
    return found | {uid: tuple(each) for uid, each in (by_class or {}).items()}
