"""The gateway's configuration: one YAML file, then the environment, then flags.

Every scalar of the file is read as the text that stands there and converted by
the field's own type, so that ``NO``, ``01`` and ``1:30`` mean what they say. An
error names the file, line and column.

The environment overrides single values: ``ECLUSE_HTTP__LISTEN=0.0.0.0:8080`` is
``http.listen``. Lists (sources, destinations) are only read from the file.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.cda.settings import CdaFolderSourceSettings, CdaHttpSourceSettings
from adapters.dicom.settings import DicomSourceSettings
from adapters.hl7.settings import (
    Hl7FolderSourceSettings,
    Hl7HttpSourceSettings,
    MllpSourceSettings,
)
from adapters.hprim.settings import HprimFolderSourceSettings, HprimHttpSourceSettings

CONFIGURATION_BYTES_MAX = 1 << 20
ENVIRONMENT_PREFIX = "ECLUSE_"

SourceSettings = Annotated[
    MllpSourceSettings
    | DicomSourceSettings
    | CdaHttpSourceSettings
    | CdaFolderSourceSettings
    | Hl7HttpSourceSettings
    | Hl7FolderSourceSettings
    | HprimHttpSourceSettings
    | HprimFolderSourceSettings,
    Field(discriminator="type"),
]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JournalSettings(_Block):
    """Where the durable truth is kept."""

    url: str = Field(
        default="",
        description="SQLAlchemy URL: postgresql+psycopg://user@host/name. Empty: an SQLite file "
        "journal.sqlite in the state folder.",
    )


class BrokerSettings(_Block):
    """What wakes the workers. It carries lane names only; losing it loses nothing."""

    url: str = Field(
        default="",
        description="redis://host:6379/0. Empty: the embedded broker inside the process.",
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
    sweep_seconds: float = Field(
        default=1.0, gt=0, le=60, description="How often due lanes are rung again, in seconds."
    )
    lease_seconds: float = Field(
        default=30.0, ge=5, le=600, description="How long a worker holds a lane without renewing."
    )


class RetrySettings(_Block):
    """When a failed delivery is tried again: exponential backoff with full jitter."""

    base_seconds: float = Field(default=2.0, gt=0, description="The first wait's upper bound.")
    factor: float = Field(default=2.0, ge=1, description="How the bound grows per attempt.")
    cap_seconds: float = Field(default=900.0, gt=0, description="The longest wait.")
    attempts_max: int = Field(default=12, ge=1, description="Attempts before it is a dead letter.")
    give_up_seconds: float = Field(
        default=259_200.0, gt=0, description="Age at which it is a dead letter (3 days)."
    )


class MappingSettings(_Block):
    """Which mappings are loaded besides those that ship."""

    folders: list[Path] = Field(default_factory=list, description="Folders of mapping files.")
    sites: Path | None = Field(
        default=None, description="Folder of site overrides (one folder per site)."
    )
    site: str = Field(default="", description="Whose overrides apply; empty: none.")


class IdentitySettings(_Block):
    """Which national identifiers count."""

    accept_test_roots: bool = Field(
        default=True,
        description="Take INS of the test and demonstration roots (…1.4.10, …1.4.11). "
        "Set to false in production.",
    )


class LogSettings(_Block):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important line that is written."
    )
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="json, text, or text on a terminal and json elsewhere."
    )


class RecordDestinationSettings(_Block):
    """The built-in shared record."""

    type: Literal["record"] = "record"
    name: str = Field(default="record", pattern=r"^[a-z][a-z0-9-]{0,39}$", description="Its name.")


class Settings(_Block):
    """The whole configuration of one gateway process."""

    state: Path = Field(
        default=Path("ecluse-state"), description="Folder of the journal, documents and spool."
    )
    journal: JournalSettings = Field(default_factory=JournalSettings, description="The journal.")
    broker: BrokerSettings = Field(default_factory=BrokerSettings, description="The doorbell.")
    http: HttpSettings = Field(default_factory=HttpSettings, description="HTTP.")
    worker: WorkerSettings = Field(default_factory=WorkerSettings, description="The workers.")
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Retries.")
    mappings: MappingSettings = Field(default_factory=MappingSettings, description="Mappings.")
    identity: IdentitySettings = Field(default_factory=IdentitySettings, description="Identity.")
    log: LogSettings = Field(default_factory=LogSettings, description="Logs.")
    sources: list[SourceSettings] = Field(
        default_factory=list,
        max_length=200,
        description="Ways in; empty: one for each protocol, and a folder for CDA.",
    )
    destinations: list[RecordDestinationSettings] = Field(
        default_factory=lambda: [RecordDestinationSettings()],
        max_length=20,
        description="Where entries go.",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        for what, names in (
            ("source", [source.name for source in self.sources]),
            ("destination", [destination.name for destination in self.destinations]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {what}s are named {', '.join(twice)}")
        return self

    def journal_url(self) -> str:
        """The SQLAlchemy URL that is really used."""
        return self.journal.url or f"sqlite:///{self.state.absolute() / 'journal.sqlite'}"


class ConfigurationError(Exception):
    """The configuration cannot be used. One line per problem, ``file:line:col: what``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def default_sources(state: Path) -> list[Any]:
    """One source for each protocol, on customary loopback ports: a gateway without a file."""
    return [
        MllpSourceSettings(name="hl7", type="mllp", listen="127.0.0.1:2575"),
        DicomSourceSettings(name="dicom", type="dicom", listen="127.0.0.1:11112"),
        CdaHttpSourceSettings(name="cda", type="cda-http"),
        CdaFolderSourceSettings(name="cda-folder", type="cda-folder", path=state / "drop"),
        Hl7HttpSourceSettings(name="hl7-http", type="hl7-http"),
        HprimHttpSourceSettings(name="hprim", type="hprim-http"),
    ]


def load_settings(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the configuration.

    ``path`` names the YAML file; None takes ``ecluse.yaml`` of the working folder
    when there is one, else the defaults. ``overrides`` (dotted name to value) come
    from flags and win. Raises ConfigurationError.
    """
    if path is None and Path("ecluse.yaml").is_file():
        path = Path("ecluse.yaml")
    tree, marks = _read(path) if path is not None else ({}, {})
    for name, value in (os.environ if environment is None else environment).items():
        if (name.startswith(ENVIRONMENT_PREFIX) and "__" in name) or name == "ECLUSE_STATE":
            _set(tree, name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"), value)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _set(tree, dotted.split("."), value)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(_problems(error, path, marks)) from None
    if not settings.sources:
        settings = settings.model_copy(update={"sources": default_sources(settings.state)})
    return settings


def _read(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], tuple[int, int]]]:
    try:
        if path.stat().st_size > CONFIGURATION_BYTES_MAX:
            raise ConfigurationError([f"{path}: larger than {CONFIGURATION_BYTES_MAX} bytes"])
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: cannot be read: {error}"]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigurationError([f"{where}: {error.problem or error.context}"]) from None
    marks: dict[tuple[str | int, ...], tuple[int, int]] = {}
    tree = {} if node is None else _plain(node, (), marks, path)
    if not isinstance(tree, dict):
        raise ConfigurationError([f"{path}:1:1: a mapping of settings is expected"])
    return tree, marks


def _plain(
    node: yaml.Node,
    place: tuple[str | int, ...],
    marks: dict[tuple[str | int, ...], tuple[int, int]],
    path: Path,
) -> Any:
    marks[place] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.ScalarNode):
        empty = node.tag == "tag:yaml.org,2002:null" and node.value in ("", "null", "~")
        return None if empty else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, i), marks, path) for i, item in enumerate(node.value)]
    tree: dict[str, Any] = {}
    for key, value in node.value:
        line, column = key.start_mark.line + 1, key.start_mark.column + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigurationError([f"{path}:{line}:{column}: a key must be a plain word"])
        if key.value in tree:
            first = marks[(*place, key.value)]
            raise ConfigurationError(
                [f"{path}:{line}:{column}: {key.value} stands twice (first at line {first[0]})"]
            )
        tree[key.value] = _plain(value, (*place, key.value), marks, path)
    return tree


def _set(tree: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        branch = tree.setdefault(name, {})
        if not isinstance(branch, dict):
            raise ConfigurationError([f"{'.'.join(names)}: {name} is no block"])
        tree = branch
    tree[names[-1]] = value


def _problems(
    error: ValidationError,
    path: Path | None,
    marks: dict[tuple[str | int, ...], tuple[int, int]],
) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        # A tagged union puts the tag into the location; the file does not have it.
        place = tuple(part for part in problem["loc"] if part not in _TAGS)
        known = place
        while known and known not in marks:
            known = known[:-1]
        line, column = marks.get(known, (1, 1))
        where = f"{path}:{line}:{column}" if path is not None and marks else "configuration"
        lines.append(f"{where}: {'.'.join(map(str, place)) or 'settings'}: {problem['msg']}")
    return lines


_TAGS = frozenset(
    {
        *("mllp", "dicom", "cda-http", "cda-folder"),
        *("hl7-http", "hl7-folder", "hprim-http", "hprim-folder"),
    }
)
