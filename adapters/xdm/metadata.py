"""METADATA.XML: the submission set and the document entries of one folder of an archive.

What a Portable Media Creator must say of a document beyond what any sender must: its file's name
(``URI``), ``hash`` (SHA-1) and ``size`` (ITI TF-3 section 4.3.1, table 4.3.1-3, column XDM MC).
"""

from __future__ import annotations

from adapters.ebrim.faults import metadata
from adapters.ebrim.submission import SubmissionSet, read_submission
from adapters.ebrim.xml import XmlLimits, parsed

LIMITS = XmlLimits(bytes_max=8 << 20)


def read_metadata(data: bytes, location: str) -> SubmissionSet:
    """Read and check one METADATA.XML, whose name in the archive is ``location``.

    Raises Refused for what is not well-formed, not safe, or not complete.
    """
    found = read_submission(parsed(data, "METADATA.XML", location, LIMITS), location)
    if not found.entries:
        raise metadata("METADATA.XML holds no document entry", location)
    for entry in found.entries:
        said = {"URI": entry.uri, "hash": entry.sha1, "size": entry.size is not None}
        for name, value in said.items():
            if not value:
                raise metadata(f"a document entry has no {name}", location)
    return found
