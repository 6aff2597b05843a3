"""The conditions of the v2-to-FHIR tables in the mapping language.

HL7 publishes a grammar for them (``IF OBX-2 EQUALS "NM"``), and the tables keep to it
loosely. Read are: ``VALUED``, ``EQUALS``, ``IS``, ``=``, ``IN``, ``EMPTY``, ``EXIST``, each
with ``NOT``; a count of repetitions compared with 1; ``AND``, ``OR`` and brackets; several
fields before one test (``PID-33 AND PID-34 VALUED``). ``AND`` beside ``OR`` without brackets
is not read: which one binds is not said. All else raises NotTranslated with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

TEXT_MAX = 1_000

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"[^"]*"|'[^']*'|“[^”]*”)
    | (?P<path>
        [A-Z][A-Z0-9]{1,2}[-.]\d+(?:\.\d+){0,2}(?![\w.])
      | (?!(?:NOT|AND)\b)[A-Z][A-Z0-9]{2}(?=\s+(?:IS\s+)?(?:NOT\s+)?VALUED\b)
      )
    | (?P<count>(?:LST\.)?COUNT\b)
    | (?P<word>[A-Za-z]+)
    | (?P<number>\d+)
    | (?P<mark>!=|>=|<=|<>|[()=<>,])
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_LARGER = ("GREATER", "THAN")
_SMALLER_OR_EQUAL = ("LESS", "THAN", "OR", "EQUALS")


class NotTranslated(Exception):
    """A condition that is not of the simple shapes; ``args[0]`` says why."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    def word(self) -> str:
        return self.text.upper() if self.kind in ("word", "count") else ""


Locate = Callable[[str], str]
"""A field or component as the table names it, to a path of the mapping language."""


Known = Callable[[str], bool]
"""Whether the versions of HL7 v2 that are read have a path at all."""

ALWAYS, NEVER = "true", "false"


def translate(condition: str, own: str, locate: Locate, known: Known = lambda _path: True) -> str:
    """A condition in the mapping language; empty when it always holds.

    ``own`` is the field of the row, meant where the condition names none (``IF NOT VALUED``).
    A field that ``known`` denies has never a value, and the tests of it are worked out.
    Raises NotTranslated, also for what can never hold.
    """
    if len(condition) > TEXT_MAX:
        raise NotTranslated("longer than a condition can be")
    made = _Reader(_tokens(condition), own, locate, known).condition()
    if made == NEVER:
        raise NotTranslated("can never hold: HL7 v2 up to 2.8 has no such field")
    return "" if made == ALWAYS else made


def _together(parts: list[str], word: str) -> str:
    """Tests joined by ``and`` or ``or``, those left out that are settled."""
    settles, drops = (NEVER, ALWAYS) if word == "and" else (ALWAYS, NEVER)
    if settles in parts:
        return settles
    left = [part for part in parts if part != drops]
    return f" {word} ".join(left) if left else drops


def _tokens(condition: str) -> list[_Token]:
    found, at = [], 0
    text = condition.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise NotTranslated(f"not of the published grammar at {text[at : at + 12]!r}")
        token = _Token(match.lastgroup, match[match.lastgroup])
        if token.word() != "IF":
            found.append(token)
        at = match.end()
    if not found:
        raise NotTranslated("says nothing")
    return found


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[_Token], own: str, locate: Locate, known: Known) -> None:
        self._known = known
        self._tokens = tokens
        self._at = 0
        self._last = own
        self._locate = locate

    def condition(self) -> str:
        made = self._terms()
        if self._at < len(self._tokens):
            raise NotTranslated(f"{self._tokens[self._at].text!r} has no operator before it")
        return made

    def _peek(self, ahead: int = 0) -> _Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else _Token("end", "")

    def _take(self, *words: str) -> bool:
        if all(self._peek(index).word() == word for index, word in enumerate(words)):
            self._at += len(words)
            return True
        return False

    def _mark(self, mark: str) -> bool:
        token = self._peek()
        if token.kind == "mark" and token.text == mark:
            self._at += 1
            return True
        return False

    def _terms(self) -> str:
        parts = [self._term()]
        joined = ""
        while (word := self._peek().word()) in ("AND", "OR"):
            if joined and word != joined:
                raise NotTranslated("AND beside OR without brackets: which binds is not said")
            joined = word
            self._at += 1
            parts.append(self._term())
        return _together(parts, joined.lower()) if joined else parts[0]

    def _term(self) -> str:
        if self._mark("("):
            inner = self._terms()
            if not self._mark(")"):
                raise NotTranslated("a bracket is not closed")
            return inner if inner in (ALWAYS, NEVER) else f"({inner})"
        return self._test()

    def _test(self) -> str:
        paths, joined = [], ""
        while self._peek().kind == "path":
            paths.append(self._peek().text)
            self._at += 1
            word = self._peek().word()
            if word in ("AND", "OR") and self._shared():
                if joined and word != joined:
                    raise NotTranslated("AND beside OR before one test")
                joined = word
                self._at += 1
                continue
            break
        if not paths:
            if not self._last:
                raise NotTranslated(f"{self._peek().text!r} tests no field")
            paths = [self._last]
        self._last = paths[-1]
        located = [self._locate(path) for path in paths]
        tests = [
            test if self._known(path) else (ALWAYS if _holds_without(test) else NEVER)
            for path, test in zip(located, self._predicate(located), strict=True)
        ]
        if len(tests) == 1:
            return tests[0]
        made = _together(tests, joined.lower())
        return made if made in (ALWAYS, NEVER) else f"({made})"

    def _shared(self) -> bool:
        """Whether the next field is another subject of the same test."""
        return self._peek(1).kind == "path"

    def _predicate(self, paths: list[str]) -> list[str]:
        if self._peek().kind == "count":
            self._at += 1
            return [self._count(path) for path in paths]
        negated = False
        if self._take("DOES", "NOT", "EXIST") or self._take("DO", "NOT", "EXIST"):
            return [f"not {path} exists" for path in paths]
        while self._take("IS") or self._take("NOT"):
            negated = negated or self._tokens[self._at - 1].word() == "NOT"
        if self._take("VALUED") or self._take("EXISTS") or self._take("VALUE"):
            if self._peek().word() in ("NOT", "EQUAL"):
                raise NotTranslated("two tests of one field without an operator")
            return [f"not {path} exists" if negated else f"{path} exists" for path in paths]
        if self._take("EMPTY"):
            return [f"{path} exists" if negated else f"not {path} exists" for path in paths]
        if self._take("IN"):
            listed = ", ".join(self._listed())
            return [f"{path} {'not in' if negated else 'in'} [{listed}]" for path in paths]
        if self._mark("!="):
            negated = not negated
        else:
            _ = self._take("EQUALS") or self._take("EQUAL", "TO") or self._take("EQUAL")
            self._mark("=")
        value = self._value()
        return [f"{path} {'!=' if negated else '='} {value}" for path in paths]

    def _count(self, path: str) -> str:
        more = f"{_repetition(path, 2)} exists"
        if self._mark(">") or self._take(*_LARGER):
            tests = {"1": more, "0": f"{path} exists"}
        elif self._take(*_SMALLER_OR_EQUAL) or self._mark("<="):
            tests = {"1": f"not {more}"}
        elif self._mark("=") or self._take("EQUALS"):
            tests = {"1": f"({path} exists and not {more})"}
        else:
            raise NotTranslated("a count is compared in a way that is not read")
        token = self._peek()
        self._at += 1
        if token.text not in tests:
            raise NotTranslated("a count is compared with 1 only")
        return tests[token.text]

    def _listed(self) -> list[str]:
        if not self._mark("("):
            raise NotTranslated("IN without a list of values")
        values = [self._value()]
        while self._mark(","):
            values.append(self._value())
        if not self._mark(")"):
            raise NotTranslated("the list of values is not closed")
        return values

    def _value(self) -> str:
        token = self._peek()
        if token.kind != "text":
            what = token.text or "the end"
            raise NotTranslated(f"{what!r} stands where a value in quotes is expected")
        self._at += 1
        value = token.text[1:-1]
        if "'" in value or not value:
            raise NotTranslated("a value that the mapping language cannot quote")
        return value if re.fullmatch(r"[A-Za-z0-9.]+", value) else f"'{value}'"


def _holds_without(test: str) -> bool:
    """Whether a test holds of a field that has no value."""
    return test.startswith("not ") or " != " in test or " not in " in test


def _repetition(path: str, number: int) -> str:
    """The same path in a certain repetition of its field."""
    field, dot, rest = path.partition(".")
    if path.startswith("$"):
        raise NotTranslated("counts repetitions of a value inside a data type")
    return f"{field}({number}){dot}{rest}"
