"""One event, one line, one metric; and nothing of a patient in any of them."""

from __future__ import annotations

import ast
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import telemetry

NAME = "DUPONT-MARTIN"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    out = io.StringIO()
    telemetry.configure("info", "json", out)
    yield out
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers, root.level = before


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_allowed_keys_are_written_and_others_only_named(stream: io.StringIO) -> None:
    structlog.get_logger("ecluse.x").info("held", message_id=7, patient=NAME, text=NAME)
    (line,) = lines(stream)
    assert line["message_id"] == 7
    assert line["withheld"] == ["patient", "text"]
    assert line["logger"] == "ecluse.x"
    assert NAME not in stream.getvalue()


def test_an_exceptions_text_is_never_written(stream: io.StringIO) -> None:
    log = structlog.get_logger("ecluse.x")
    try:
        try:
            int(NAME)
        except ValueError as error:
            raise RuntimeError(f"could not read {NAME}") from error
    except RuntimeError:
        log.exception("failed", message_id=7)
        logging.getLogger("uvicorn.error").exception("failed")
    assert NAME not in stream.getvalue()
    for line in lines(stream):
        assert "RuntimeError" in line["exception"]
        assert "ValueError" in line["exception"]
        assert "test_telemetry.py" in line["exception"]


@pytest.mark.parametrize("name", ["pydicom", "pynetdicom.acse", "sqlalchemy.engine", "hl7"])
def test_a_quoting_librarys_text_is_withheld(stream: io.StringIO, name: str) -> None:
    logging.getLogger(name).warning("Invalid value %s", NAME)
    (line,) = lines(stream)
    assert NAME not in stream.getvalue()
    assert line["logger"] == name
    assert "test_telemetry.py" in line["place"]


def test_warnings_are_withheld_too(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        telemetry.configure("info", "json", stream)
        warnings.warn(f"Invalid value for VR PN: {NAME}", stacklevel=1)
    assert lines(stream)
    assert NAME not in stream.getvalue()


def test_an_honest_librarys_line_is_written(stream: io.StringIO) -> None:
    logging.getLogger("dramatiq.worker").warning("worker %s restarts", 3)
    logging.getLogger("dramatiq.worker").debug("chatter")
    (line,) = lines(stream)
    assert line["event"] == "worker 3 restarts"


def test_an_event_below_the_level_is_counted_and_not_written(stream: io.StringIO) -> None:
    def counted() -> float:
        value = telemetry.METRICS.registry.get_sample_value(
            "ecluse_http_requests_total", {"route": "/x", "status": "4xx"}
        )
        return value or 0.0

    before = counted()
    log = structlog.get_logger("ecluse.http")
    log.debug("answered", path_template="/x", status=404, duration_seconds=0.1)
    assert counted() == before + 1
    assert stream.getvalue() == ""


def test_a_stage_with_a_duration_is_measured(stream: io.StringIO) -> None:
    name, labels = "ecluse_stage_duration_seconds_sum", {"stage": "test-stage"}
    structlog.get_logger("ecluse.x").info("read", stage="test-stage", duration_seconds=0.25)
    assert telemetry.METRICS.registry.get_sample_value(name, labels) == pytest.approx(0.25)


def test_text_is_for_terminals_and_honours_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    try:
        for no_color, escaped in ((False, True), (True, False)):
            monkeypatch.delenv("NO_COLOR", raising=False)
            if no_color:
                monkeypatch.setenv("NO_COLOR", "1")
            out = Terminal()
            monkeypatch.setattr("sys.stderr", out)
            telemetry.configure("info", "auto")
            structlog.get_logger("ecluse.x").info("started", count=3)
            assert "started" in out.getvalue()
            assert ("\x1b[" in out.getvalue()) is escaped
    finally:
        structlog.reset_defaults()
        root.handlers, root.level = before


def test_an_outline_of_a_cycle_of_exceptions_ends() -> None:
    first, second = ValueError(NAME), KeyError(NAME)
    first.__cause__, second.__cause__ = second, first
    assert NAME not in telemetry.exception_outline(first)


def test_what_our_own_lines_say_is_let_through() -> None:
    """A key that is withheld everywhere is a line that nobody can act on."""
    withheld = []
    for package in ("gateway", "deadletter", "record", "imaging", "adapters"):
        for path in (ROOT / package).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr
                    in {"debug", "info", "warning", "error", "critical", "exception"}
                    and ast.unparse(call.func.value).endswith("log")
                ):
                    keys = {each.arg for each in call.keywords if each.arg}
                    odd = keys - telemetry.ALLOWED_KEYS - {"exc_info"}
                    withheld += [f"{path.relative_to(ROOT)}:{call.lineno} {key}" for key in odd]
    assert withheld == []
