"""How a conversion says that a value is not what it should be."""

from __future__ import annotations


class Invalid(Exception):
    """The text is not a date, a number, a code… ``args[0]`` says what was expected.

    The message never holds the text itself: it may be a patient's.
    """
