"""DICOM: receiving instances, reading studies, sending."""
