"""Settings of one process: where it keeps what it has, whom it wakes, how it is reached,
how much of the machine it takes, what it logs."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

POSTGRESQL = "postgresql"
"""As a broker's URL (``gateway.broker``): the journal's database tells the processes."""


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JournalSettings(_Block):
    """Where the durable truth is kept."""

    url: str = Field(
        default="",
        pattern=r"^($|sqlite:|postgresql\+psycopg:)",
        description="SQLAlchemy URL: postgresql+psycopg://user@host/name. Empty: an SQLite file "
        "journal.sqlite in the state folder.",
    )

    blobs: Path | None = Field(
        default=None,
        description="Folder of large payloads and documents. Processes on several machines need "
        "a shared one that keeps what it says it has (fsync). Nothing: blobs in the state folder.",
    )


class BrokerSettings(_Block):
    """What wakes the workers. It carries lane names only; losing it loses nothing."""

    url: str = Field(
        default="",
        pattern=r"^($|rediss?://|unix://|amqps?://|postgresql$)",
        description="redis://host:6379/0, or amqp://user:password@host/vhost for RabbitMQ (needs "
        "ecluse[rabbitmq]). postgresql: no broker, processes tell each other by "
        "NOTIFY of the journal's PostgreSQL. Empty: the embedded broker inside the process.",
    )


class HttpSettings(_Block):
    """The console, the FHIR reading API, health, metrics and the HTTP intakes."""

    listen: str = Field(default="127.0.0.1:8080", description="host:port; port 0 is any free one.")
    token_file: Path | None = Field(
        default=None,
        description="A file whose first line is the password (HTTP Basic, any user name) or bearer "
        "token. Required as soon as the address is not a loopback one.",
    )

    @model_validator(mode="after")
    def _open_only_with_a_token(self) -> HttpSettings:
        host = self.listen.rsplit(":", 1)[0].strip("[]")
        try:
            loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback and self.token_file is None:
            raise ValueError(
                "listen is not a loopback address, so token_file is required: "
                "the console shows patient data"
            )
        return self


class WorkerSettings(_Block):
    """How the stages after intake run."""

    threads: int = Field(
        default=2, ge=0, le=64, description="Worker threads in this process; 0: it only listens."
    )
    mapping_processes: int = Field(
        default=1,
        ge=0,
        le=16,
        description="Processes that read and map messages beside this one, each for one source at "
        "a time, so that more than one core is used. They are started when there is a backlog; "
        "0: the worker threads do it themselves (always so on Windows).",
    )
    priorities: dict[str, Literal["high", "normal", "low"]] = Field(
        default_factory=dict,
        max_length=200,
        description="By source: whose messages go first where there is a backlog (normal for "
        "all others). Within a priority every source has its share of each destination, and the "
        "lower priorities always have an eighth.",
    )
    sweep_seconds: float = Field(
        default=1.0, gt=0, le=60, description="How often due lanes are rung again, in seconds."
    )
    lease_seconds: float = Field(
        default=30.0, ge=5, le=600, description="How long a worker holds a lane without renewing."
    )


class LogSettings(_Block):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important line that is written."
    )
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="json, text, or text on a terminal and json elsewhere."
    )
