"""Mappings in force: versions that were checked, kept, deployed, taken back; and what follows
from a change for messages that wait for a mapping or were read with another one."""
