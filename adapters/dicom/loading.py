"""pydicom and pynetdicom, loaded whole, whichever thread needs them first.

They take half a second, so they are loaded where they are needed, and that is in many threads. A
thread that begins with a module *inside* a package (``from pydicom.uid import UID``) holds that
module's lock while it waits for the package; another one that loads the package comes to that
module and waits in turn. Python ends the deadlock by an ImportError, or by handing out modules that
are half made, and they stay so until the process ends. So every thread begins with the package:
then it waits without holding anything. ``tests/unit/dicom/test_loading.py`` holds it.
"""

from __future__ import annotations


def load_pydicom() -> None:
    """To be called before anything inside pydicom is imported by a function."""
    import pydicom  # noqa: F401


def load_pynetdicom() -> None:
    """To be called before anything of pynetdicom is imported by a function."""
    # pynetdicom itself begins with modules inside pydicom.
    load_pydicom()
    import pynetdicom  # noqa: F401
