"""One event, one log line and one metric. No value of a patient passes here.

Code anywhere says what happened with ``structlog.get_logger(...).info("event", key=value)``.
The chain that :func:`configure` installs then

1. counts the event (:meth:`Metrics.count`), before any level drops it,
2. drops it when it is below the configured level,
3. keeps the keys of :data:`ALLOWED_KEYS` and withholds all others, naming them in ``withheld``,
4. writes an exception as its type and the lines of code it passed, never its text:
   a library's text may quote the value that it did not like,
5. prints one JSON object a line, or readable text on a terminal.

Lines of libraries pass the same chain. Those of :data:`QUOTING_LIBRARIES` are known to
write values of what they read; of these only the logger and the place in the code are kept.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, disable_created_metrics

from gateway.durations import Durations

EventDict = MutableMapping[str, Any]

ALLOWED_KEYS = frozenset(
    {
        # the line itself
        "event", "level", "timestamp", "logger", "exception", "withheld", "stack",
        # where it stands: rooms, stages, names of the configuration
        "stage", "source", "destination", "lane", "format", "kind", "mapping", "version",
        "listen", "address", "path_template", "peer", "component",
        # which item: numbers of the journal, never control ids or identifiers of a patient
        "message", "message_id", "messages", "dead_letter", "dead_letters", "delivery",
        "delivery_id", "deliveries", "attempt", "attempts", "operation", "group",
        # jobs, alerts and versions: numbers and names of our own
        "job", "alert", "channel", "thread", "before",
        # how many of a reprocessing's messages each way; whether an export is without identity
        "examined", "changed", "failed", "deidentified",
        # why and how it ended: closed codes, and places in code or rules
        "cause", "code", "protocol_code", "location", "outcome", "state", "reason", "error",
        "at", "fault", "signal", "status", "method", "warning", "place",
        # how much and how long, with the unit in the name
        "count", "size", "bytes", "seconds", "duration_seconds", "wait_seconds", "due_seconds",
        "limit", "lanes", "batch", "connections", "instances", "studies", "entries", "duplicates",
        "threads",
        # who asked, as far as the token or the system's account says
        "actor", "pid", "port", "worker", "revision", "sources", "url",
    }
)  # fmt: skip
"""The keys that a log line may have. Add one only when no value of a patient can stand in it."""

QUOTING_LIBRARIES = (
    "pydicom", "pynetdicom", "hl7", "hl7apy", "py.warnings", "sqlalchemy", "multipart",
    "python_multipart", "psycopg", "uvicorn.access",
)  # fmt: skip
"""Libraries whose log lines may quote what they read; their text is withheld."""

_LEVELS = MappingProxyType({"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50})
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """What is counted in the process. Amounts that the journal knows are read from it
    at scrape (``gateway.api.metrics``), so that they are right in any number of processes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.stage_seconds = Durations(
            "ecluse_stage_duration_seconds",
            "Time that one stage took for one message or one delivery.",
            "stage",
            _BUCKETS,
            self.registry,
        )
        self.answers = Counter(
            "ecluse_http_requests",
            "Answered HTTP requests by route and status class.",
            ["route", "status"],
            registry=self.registry,
        )
        self.lines = Counter(
            "ecluse_log_lines",
            "Log lines of level warning and above, by level.",
            ["level"],
            registry=self.registry,
        )

    def count(self, event: Mapping[str, Any]) -> None:
        """Take one event's share: a stage's duration, an answer, a warning."""
        seconds = event.get("duration_seconds")
        if isinstance(seconds, int | float) and event.get("stage"):
            self.stage_seconds.labels(str(event["stage"])).observe(seconds)
        if event.get("event") == "answered" and event.get("path_template"):
            status = f"{int(event.get('status', 0)) // 100}xx"
            self.answers.labels(str(event["path_template"]), status).inc()
        level = event.get("level")
        if level in {"warning", "error", "critical"}:
            self.lines.labels(str(level)).inc()


# One more series per label set, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

METRICS = Metrics()
"""The process's own metrics: log processors have no other way to be handed them."""


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Install the chain for structlog and for the standard library's logging.

    ``form`` is ``json``, ``text`` or ``auto`` (text on a terminal, else JSON); NO_COLOR is
    honoured. Calling it again replaces the former configuration.
    """
    target = stream or sys.stderr
    terminal = target.isatty()
    text = form == "text" or (form == "auto" and terminal)
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=terminal and "NO_COLOR" not in os.environ)
        if text
        else structlog.processors.JSONRenderer()
    )
    threshold = _LEVELS[level]
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            _count,
            _below(threshold),
            structlog.stdlib.add_logger_name,
            describe_exception,
            withhold,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream) if stream is not None else _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name, *shared, quiet_library, describe_exception,
                withhold,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )  # fmt: skip
    root = logging.getLogger()
    root.handlers = [handler]
    # Our own events are filtered by the chain, after they were counted.
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger("ecluse").setLevel(logging.DEBUG)
    logging.captureWarnings(True)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment, not when logging was configured."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _count(logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    METRICS.count(event)
    return event


def _below(threshold: int) -> Any:
    def drop(logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
        if _LEVELS.get(str(event.get("level")), 50) < threshold:
            raise structlog.DropEvent
        return event

    return drop


def withhold(logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """Keep the allowed keys; of the others only the names stay, in ``withheld``."""
    private = {"_record", "_from_structlog"}
    refused = sorted(key for key in event if key not in ALLOWED_KEYS and key not in private)
    for key in refused:
        del event[key]
    if refused:
        event["withheld"] = refused
    return event


def describe_exception(logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """Replace ``exc_info`` by the exception's type and the lines it passed; never its text."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["exception"] = exception_outline(error)
    return event


def exception_outline(error: BaseException) -> str:
    """``Type at file:line in function < caller …``, innermost first, causes after ``from``."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(parts) < 5:
        seen.add(id(current))
        frames = traceback.extract_tb(current.__traceback__)[-12:]
        places = " < ".join(f"{f.filename}:{f.lineno} in {f.name}" for f in reversed(frames))
        kind = type(current)
        parts.append(f"{kind.__module__}.{kind.__qualname__}" + (f" at {places}" if places else ""))
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return " from ".join(parts)


def _quotes(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in QUOTING_LIBRARIES)


def quiet_library(logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """A line of a library that may quote values keeps its logger and its place only."""
    record = event.get("_record")
    name = str(event.get("logger", ""))
    if isinstance(record, logging.LogRecord) and _quotes(name):
        event["event"] = "a library's line is withheld"
        event["place"] = f"{record.pathname}:{record.lineno}"
    return event
