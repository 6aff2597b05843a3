"""What the SCP negotiates: SOP classes (PS3.4 B.5), transfer syntaxes (PS3.5 annex A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary
from pynetdicom import ALL_TRANSFER_SYNTAXES
from pynetdicom.sop_class import _STORAGE_CLASSES

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
_NO_PATIENT = (f"{_IMAGE_STORAGE_ROOT}200.", f"{_IMAGE_STORAGE_ROOT}201.")


def storage_classes() -> tuple[str, ...]:
    """Every storage SOP class of a patient that the standard has, retired ones too, sorted."""
    retired = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and uid.startswith(_IMAGE_STORAGE_ROOT)
    }
    found = retired | {str(uid) for uid in _STORAGE_CLASSES.values()}
    return tuple(sorted(uid for uid in found if not uid.startswith(_NO_PATIENT)))


def transfer_syntaxes() -> tuple[str, ...]:
    """Every transfer syntax that carries its pixels, uncompressed ones first."""
    others = [
        str(uid)
        for uid in ALL_TRANSFER_SYNTAXES
        if uid not in UNCOMPRESSED and uid not in _PIXELS_ELSEWHERE
    ]
    return (*UNCOMPRESSED, *others)


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
