"""Imaging manifests: what an exam is, when its manifest is due, how it goes into the record."""
