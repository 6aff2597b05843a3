"""``ecluse demo``: the main job, played through real sockets with synthetic patients."""

from gateway.demo.performance import main

__all__ = ["main"]
