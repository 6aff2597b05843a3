"""A letter as PDF and a laboratory report as CDA, made here so that nothing is borrowed."""

from __future__ import annotations

from importlib import resources

from gateway.demo.people import HOSPITAL, TEST_ROOT, Patient


def pdf_letter(title: str, lines: tuple[str, ...]) -> bytes:
    """A one-page PDF 1.4 (A4, Helvetica, WinAnsi) with a title and lines of text."""
    text = [f"BT /F1 16 Tf 60 780 Td ({_escape(title)}) Tj ET"]
    for number, line in enumerate(lines):
        text.append(f"BT /F1 11 Tf 60 {744 - 18 * number} Td ({_escape(line)}) Tj ET")
    stream = "\n".join(text).encode("cp1252")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
        b"/Resources << /Font << /F1 4 0 R >> >> /Contents 5 0 R >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
    ]
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        table,
    )
    return bytes(out)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def cda_laboratory_report(patient: Patient) -> bytes:
    """A CDA R2 laboratory report after the CI-SIS volet CR-BIO, for ``patient``."""
    template = resources.files("gateway.demo").joinpath("cr_bio.xml").read_text(encoding="utf-8")
    for name, value in {
        "INS_ROOT": TEST_ROOT,
        "INS": patient.ins,
        "IPP_ROOT": HOSPITAL,
        "IPP": patient.ipp,
        "FAMILY": patient.family,
        "ALL_GIVEN": patient.all_given,
        "GIVEN": patient.given,
        "SEX": patient.sex,
        "BIRTH_DATE": patient.birth_date,
        "BIRTHPLACE": patient.birthplace,
        "STREET": patient.street,
        "POSTAL_CODE": patient.postal_code,
        "CITY": patient.city,
    }.items():
        template = template.replace(f"@{name}@", value)
    return template.encode("utf-8")
