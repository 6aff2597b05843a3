"""DICOMweb (PS3.18): the Studies Service and Resources, stored, searched and retrieved."""
