"""The condition grammar: parsed at load into closures, never evaluated as code.

::

    condition = all { "or" all }
    all       = one { "and" one }
    one       = "not" one | "(" condition ")" | PATH test
    test      = "exists" | "is" ("absent"|"empty"|"null"|"present")
              | ("=" | "!=" | "<" | "<=" | ">" | ">=") VALUE
              | ["not"] "in" "[" VALUE { "," VALUE } "]"
              | ("starts"|"ends") "with" VALUE | "contains" VALUE | "same" "as" PATH
              | "longer" "than" NUMBER
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.ports import Scope, Value, ValueState

CONDITION_CHARACTERS_MAX = 2_000
NESTING_MAX = 20
REMEMBERED_MAX = 1_000

Read = Callable[[Scope, Value | None], Sequence[Value]]
Content = Callable[[Scope], Hashable]
Test = Callable[[Scope, Value | None], bool]

_PRESENT = ValueState.PRESENT
_DICOM_TAG = re.compile(r"\([0-9A-Fa-f]{4},")
_WORD = re.compile(r"[^\s,\[\]()]+")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_STATES = {state.value: state for state in ValueState}


class ConditionError(Exception):
    """A text that is no condition. ``at`` counts characters from 0."""

    def __init__(self, message: str, at: int, suggestion: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.suggestion = suggestion


def compile_condition(text: str, read: Callable[[str, int], tuple[Read, Content | None]]) -> Test:
    """Parse a condition; ``read`` compiles a path found at a character of the text.

    Raises ConditionError, and whatever ``read`` raises.
    """
    if len(text) > CONDITION_CHARACTERS_MAX:
        raise ConditionError(f"a condition has at most {CONDITION_CHARACTERS_MAX} characters", 0)
    parser = _Parser(text, read)
    test = parser.either(0)
    parser.blanks()
    if parser.at < len(text):
        raise ConditionError("the condition does not continue like this", parser.at)
    return test


class _Parser:
    """Recursive descent; ``at`` is the next character."""

    def __init__(self, text: str, read: Callable[[str, int], tuple[Read, Content | None]]) -> None:
        self.text = text
        self.at = 0
        self._read = read

    def blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _word(self) -> str:
        """The next bare word without consuming it."""
        self.blanks()
        match = _WORD.match(self.text, self.at)
        return match[0] if match else ""

    def _take(self, word: str) -> bool:
        if self._word() == word:
            self.at += len(word)
            return True
        return False

    def either(self, nesting: int) -> Test:
        tests = [self._both(nesting)]
        while self._take("or"):
            tests.append(self._both(nesting))
        if len(tests) == 1:
            return tests[0]
        return _any_of(tuple(tests))

    def _both(self, nesting: int) -> Test:
        tests = [self._one(nesting)]
        while self._take("and"):
            tests.append(self._one(nesting))
        if len(tests) == 1:
            return tests[0]
        return _all_of(tuple(tests))

    def _one(self, nesting: int) -> Test:
        if nesting > NESTING_MAX:
            raise ConditionError(f"a condition nests at most {NESTING_MAX} levels", self.at)
        if self._take("not"):
            inner = self._one(nesting + 1)
            return lambda scope, item: not inner(scope, item)
        self.blanks()
        if self.text.startswith("(", self.at) and not _DICOM_TAG.match(self.text, self.at):
            self.at += 1
            inside = self.either(nesting + 1)
            self.blanks()
            if not self.text.startswith(")", self.at):
                raise ConditionError("a bracket is not closed", self.at)
            self.at += 1
            return inside
        read, content = self._path()
        alone = self.at
        test = self._test(read)
        two_paths = self.text[alone:].lstrip().startswith("same ")
        return test if content is None or two_paths else _remembered(test, content)

    def _path(self) -> tuple[Read, Content | None]:
        """A path: everything up to a blank outside brackets and quotation marks."""
        self.blanks()
        start, depth, quoted = self.at, 0, ""
        while self.at < len(self.text):
            character = self.text[self.at]
            if quoted:
                quoted = "" if character == quoted else quoted
            elif character in "\"'":
                quoted = character
            elif character in "([":
                depth += 1
            elif character in ")]":
                if depth == 0:
                    break
                depth -= 1
            elif character.isspace() and depth == 0:
                break
            self.at += 1
        if self.at == start:
            raise ConditionError("a path is expected", start)
        return self._read(self.text[start : self.at], start)

    def _test(self, read: Read) -> Test:
        start = self.at
        word = self._word()
        if word == "exists":
            self._take(word)
            return _is_state(read, _PRESENT)
        if word == "is":
            self._take(word)
            return self._state(read)
        if word in ("=", "!="):
            self._take(word)
            equal = _is_one_of(read, frozenset((self._value(),)))
            return equal if word == "=" else _negated(equal)
        if word in _COMPARE:
            self._take(word)
            return _compares(read, _COMPARE[word], self._value())
        if word in ("in", "not"):
            self._take(word)
            if word == "not" and not self._take("in"):
                raise ConditionError("after «not» comes «in»", self.at)
            inside = _is_one_of(read, frozenset(self._values()))
            return _negated(inside) if word == "not" else inside
        if word in ("starts", "ends", "contains"):
            self._take(word)
            if word != "contains" and not self._take("with"):
                raise ConditionError(f"after «{word}» comes «with»", self.at)
            return _has_part(read, word, self._value())
        if word == "longer":
            self._take(word)
            return self._longer(read)
        if word == "same":
            self._take(word)
            if not self._take("as"):
                raise ConditionError("after «same» comes «as»", self.at)
            return _same(read, self._path()[0])
        raise ConditionError(
            "after a path comes exists, is, =, !=, <, <=, >, >=, in, not in, starts with,"
            " ends with, contains, longer than or same as",
            start,
        )

    def _longer(self, read: Read) -> Test:
        if not self._take("than"):
            raise ConditionError("after «longer» comes «than»", self.at)
        number = self._value()
        if not number.isdecimal():
            raise ConditionError("«longer than» takes a number of characters", self.at)
        length = int(number)
        return lambda scope, item: any(
            value.state is _PRESENT and len(value.text) > length for value in read(scope, item)
        )

    def _state(self, read: Read) -> Test:
        word = self._word()
        if word not in _STATES:
            raise ConditionError("a state is absent, empty, null or present", self.at)
        self._take(word)
        return _is_state(read, _STATES[word])

    def _value(self) -> str:
        self.blanks()
        quote = self.text[self.at : self.at + 1]
        if quote in ("'", '"') and quote:
            end = self.text.find(quote, self.at + 1)
            if end < 0:
                raise ConditionError("a quotation mark is not closed", self.at)
            value = self.text[self.at + 1 : end]
            self.at = end + 1
            return value
        word = self._word()
        if not word:
            raise ConditionError("a value is expected", self.at)
        self.at += len(word)
        return word

    def _values(self) -> list[str]:
        self.blanks()
        if not self.text.startswith("[", self.at):
            raise ConditionError("after «in» comes a list: [A, B]", self.at)
        self.at += 1
        values = [self._value()]
        self.blanks()
        while self.text.startswith(",", self.at):
            self.at += 1
            values.append(self._value())
            self.blanks()
        if not self.text.startswith("]", self.at):
            raise ConditionError("a list ends with ]", self.at)
        self.at += 1
        return values


def _remembered(test: Test, content: Content) -> Test:
    """A test of one path that is made once for each content of the path."""
    known: dict[Hashable, bool] = {}

    def remembered(scope: Scope, item: Value | None) -> bool:
        token = content(scope)
        answer = known.get(token)
        if answer is None:
            if len(known) >= REMEMBERED_MAX:
                known.clear()
            answer = known[token] = test(scope, item)
        return answer

    return remembered


def _any_of(tests: tuple[Test, ...]) -> Test:
    def test(scope: Scope, item: Value | None) -> bool:
        for each in tests:  # noqa: SIM110 - a generator costs more than most of the tests
            if each(scope, item):
                return True
        return False

    return test


def _all_of(tests: tuple[Test, ...]) -> Test:
    def test(scope: Scope, item: Value | None) -> bool:
        for each in tests:  # noqa: SIM110 - as above
            if not each(scope, item):
                return False
        return True

    return test


def _negated(test: Test) -> Test:
    return lambda scope, item: not test(scope, item)


def _is_one_of(read: Read, wanted: frozenset[str]) -> Test:
    def test(scope: Scope, item: Value | None) -> bool:
        return any(value.state is _PRESENT and value.text in wanted for value in read(scope, item))

    return test


def _is_state(read: Read, state: ValueState) -> Test:
    def test(scope: Scope, item: Value | None) -> bool:
        values = read(scope, item)
        if not values:
            return state is ValueState.ABSENT
        if state is ValueState.ABSENT or state is ValueState.EMPTY:
            return all(value.state is state for value in values)
        return any(value.state is state for value in values)

    return test


def _compares(read: Read, compare: Callable[[Any, Any], bool], bound: str) -> Test:
    try:
        number: Decimal | None = Decimal(bound)
    except InvalidOperation:
        number = None

    def test(scope: Scope, item: Value | None) -> bool:
        for value in read(scope, item):
            if value.state is not _PRESENT:
                continue
            if number is None:
                if compare(value.text, bound):
                    return True
                continue
            try:
                if compare(Decimal(value.text), number):
                    return True
            except InvalidOperation:
                continue
        return False

    return test


def _has_part(read: Read, how: str, part: str) -> Test:
    checks: dict[str, Callable[[str], bool]] = {
        "starts": lambda text: text.startswith(part),
        "ends": lambda text: text.endswith(part),
        "contains": lambda text: part in text,
    }
    check = checks[how]
    return lambda scope, item: any(
        value.state is _PRESENT and check(value.text) for value in read(scope, item)
    )


def _same(first: Read, second: Read) -> Test:
    def test(scope: Scope, item: Value | None) -> bool:
        texts = {v.text for v in first(scope, item) if v.state is _PRESENT}
        return any(v.state is _PRESENT and v.text in texts for v in second(scope, item))

    return test
