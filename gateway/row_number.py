"""The number of a row of the journal, as a request names it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

ROW_NUMBER_MAX = 2**63 - 1
"""What both databases can hold."""

RowNumber = Annotated[int, Field(ge=0, le=ROW_NUMBER_MAX)]
"""A number that can be one: any other is refused before a database is asked."""
