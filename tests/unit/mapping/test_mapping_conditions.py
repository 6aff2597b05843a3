"""The condition grammar."""

from __future__ import annotations

import pytest

from gateway.mapping.conditions import ConditionError, compile_condition
from gateway.ports import Scope, Value
from tests.unit.mapping.pretend import PretendScope, PretendValue

MESSAGE = {
    "A": "x", "B": ["1", "20"], "C": "", "D": '""', "E": "12.50", "F": "a b", "NAME": "[x]",
}  # fmt: skip


def holds(text: str) -> bool:
    def read(path: str, _at: int):
        def values(scope: Scope, _item: Value | None) -> list[Value]:
            assert isinstance(scope, PretendScope)
            return [PretendValue(found, path) for found in scope.find(path)[0]]

        return values, None

    return compile_condition(text, read)(PretendScope(MESSAGE, "", None), None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A exists", True),
        ("C exists", False),
        ("KEY exists", False),
        ("KEY is absent", True),
        ("A is absent", False),
        ("C is empty", True),
        ("D is null", True),
        ("C is null", False),
        ("A is present", True),
        ("A = x", True),
        ("A = y", False),
        ("A != y", True),
        ("B = 20", True),
        ("B != 20", False),
        ("KEY != x", True),
        ("D = ''", False),
        ("A in [x, y]", True),
        ("A in [ 'x' ,y]", True),
        ("A not in [x, y]", False),
        ("F = 'a b'", True),
        ('F = "a b"', True),
        ("NAME = '[x]'", True),
        ("E < 12.6", True),
        ("E <= 12.5", True),
        ("E > 12.5", False),
        ("B >= 20", True),
        ("A < y", True),
        ("F starts with a", True),
        ("F ends with b", True),
        ("F contains ' '", True),
        ("F longer than 2", True),
        ("F longer than 3", False),
        ("A same as A", True),
        ("A same as F", False),
        ("not A exists", False),
        ("A exists and C exists", False),
        ("A exists or C exists", True),
        ("C exists and A exists or A exists", True),
        ("C exists and (A exists or A exists)", False),
        ("not (A exists and C exists)", True),
        ("not not A exists", True),
    ],
)
def test_it_says(text: str, answer: bool) -> None:
    assert holds(text) is answer


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("A", 1),
        ("A is", 4),
        ("A is full", 5),
        ("A =", 3),
        ("A in x", 5),
        ("A in [x", 7),
        ("A not x", 6),
        ("A = 'x", 4),
        ("(A exists", 9),
        ("A exists B exists", 9),
        ("A exists and", 12),
        ("A starts x", 9),
        ("A longer than x", 15),
        ("A same B", 7),
        ("", 0),
    ],
)
def test_what_is_no_condition_says_where(text: str, at: int) -> None:
    with pytest.raises(ConditionError) as wrong:
        holds(text)
    assert wrong.value.at == at


def test_a_path_may_hold_brackets_and_blanks() -> None:
    seen = []

    def read(path: str, at: int):
        seen.append((path, at))
        return (lambda _scope, _item: ()), None

    compile_condition("PID-3(5 in PI INS).1 exists and section[code = 'x y']/a@b = 1", read)
    compile_condition('((0019,10:"GEMS") exists)', read)
    assert seen == [
        ("PID-3(5 in PI INS).1", 0),
        ("section[code = 'x y']/a@b", 32),
        ('(0019,10:"GEMS")', 1),
    ]


def test_depth_and_length_are_limited() -> None:
    with pytest.raises(ConditionError):
        holds("(" * 50 + "A exists" + ")" * 50)
    with pytest.raises(ConditionError):
        holds("A exists" + " or A exists" * 300)
