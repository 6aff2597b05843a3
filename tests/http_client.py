"""One HTTP client for all tests: making one reads every certificate of the machine, which takes
long. It is closed with the interpreter, so that its connections do not outlive it."""

from __future__ import annotations

import atexit

import httpx2

HTTP = httpx2.Client(verify=False)
atexit.register(HTTP.close)
