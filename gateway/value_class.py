"""Classes of values that pass through the gateway by the million.

A frozen dataclass sets each of its fields through ``object.__setattr__``, which costs
several times what setting them costs: with twenty fields more than reading the message's
header does. So these classes are frozen for the type checker, which refuses every
assignment to a field, and plain at run time. Nothing of the kind is ever changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class
else:

    def value_class(
        *, frozen: bool, slots: bool, kw_only: bool = False
    ) -> Callable[[type[Any]], type[Any]]:
        """``dataclass(frozen=True, slots=True, …)``: equal and hashed by its fields."""
        if not (frozen and slots):
            raise TypeError("a class of values is frozen and has slots")
        return dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)


__all__ = ["value_class"]
