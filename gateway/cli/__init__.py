"""The command ``ecluse``: data on standard output, messages on standard error.

====  =========================================================
code  meaning
====  =========================================================
0     done
1     failed
2     wrong usage or configuration
3     findings: a check found something
4     a dependency (database, Redis, peer) cannot be reached
130   interrupted
====  =========================================================

Heavy imports are made inside the commands, so that ``ecluse --help`` answers at once.
"""

from __future__ import annotations

from gateway.cli.application import app, main
from gateway.cli.reference import reference

__all__ = ["app", "main", "reference"]
