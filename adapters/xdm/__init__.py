"""IHE XDM: documents that travel as files on a medium, in a zip, with their metadata beside them.

ITI TF-1 section 16 and ITI TF-2 section 3.32 (Distribute Document Set on Media, ITI-32).
"""
