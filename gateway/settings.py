"""The gateway's configuration: one YAML file, then the environment, then flags.

Every scalar of the file is read as the text that stands there and converted by
the field's own type, so that ``NO``, ``01`` and ``1:30`` mean what they say. An
error names the file, line and column.

The environment overrides single values: ``ECLUSE_HTTP__LISTEN=0.0.0.0:8080`` is
``http.listen``. Lists (sources, destinations) are only read from the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.cda.settings import CdaFolderSourceSettings, CdaHttpSourceSettings, CdaSettings
from adapters.dicom.folder_settings import DicomFolderSourceSettings
from adapters.dicom.holding_settings import HoldingsSettings
from adapters.dicom.settings import DicomSourceSettings
from adapters.dicom.web.settings import DicomwebSettings, DicomwebSourceSettings
from adapters.doors.settings import FolderDoorSettings
from adapters.hl7.settings import (
    Hl7FolderSourceSettings,
    Hl7HttpSourceSettings,
    MllpSourceSettings,
)
from adapters.hprim.settings import HprimFolderSourceSettings, HprimHttpSourceSettings
from adapters.mail.settings import ImapSourceSettings, SmtpSourceSettings
from adapters.xdm.settings import XdmFolderSourceSettings, XdmHttpSourceSettings
from adapters.xds.settings import XdsSourceSettings
from deadletter.settings import AlertSettings
from gateway.delivery_settings import (
    DestinationSettings,
    ElsewhereSettings,
    RecordDestinationSettings,
    RetrySettings,
)
from gateway.manifest_settings import MANIFEST_SOURCE, ManifestSettings
from gateway.process_settings import (
    POSTGRESQL,
    BrokerSettings,
    HttpSettings,
    JournalSettings,
    LogSettings,
    WorkerSettings,
)
from gateway.retention_settings import RetentionSettings
from gateway.settings_file import ConfigurationError, Place, SettingsFile

DEFAULT_FILE = "ecluse.yaml"
ENVIRONMENT_PREFIX = "ECLUSE_"

LEASE_SHARE = 0.8
"""As much of a lease as one attempt may take."""

SourceSettings = Annotated[
    MllpSourceSettings
    | DicomSourceSettings
    | DicomwebSourceSettings
    | DicomFolderSourceSettings
    | CdaHttpSourceSettings
    | CdaFolderSourceSettings
    | Hl7HttpSourceSettings
    | Hl7FolderSourceSettings
    | HprimHttpSourceSettings
    | HprimFolderSourceSettings
    | XdmHttpSourceSettings
    | XdmFolderSourceSettings
    | XdsSourceSettings
    | ImapSourceSettings
    | SmtpSourceSettings,
    Field(discriminator="type"),
]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MappingSettings(_Block):
    """Which mappings are loaded besides those that ship."""

    folders: list[Path] = Field(default_factory=list, description="Folders of mapping files.")
    sites: Path | None = Field(
        default=None, description="Folder of site overrides (one folder per site)."
    )
    site: str = Field(default="", description="Whose overrides apply; empty: none.")
    versions_kept: int = Field(
        default=20,
        ge=2,
        le=500,
        description="How many deployed versions keep their files, to go back to. Once a version "
        "was deployed it is what runs, whatever the folders hold.",
    )


class IdentitySettings(_Block):
    """Which national identifiers count."""

    accept_test_roots: bool = Field(
        default=True,
        description="Take INS of the test and demonstration roots (…1.4.10, …1.4.11). "
        "Set to false in production.",
    )


def _record_alone() -> list[DestinationSettings]:
    return [RecordDestinationSettings()]


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
    alerts: AlertSettings = Field(
        default_factory=AlertSettings, description="Who is told of dead letters."
    )
    retention: RetentionSettings = Field(
        default_factory=RetentionSettings, description="How long what is resolved is kept."
    )
    cda: CdaSettings = Field(
        default_factory=CdaSettings, description="How CDA documents are judged."
    )
    holdings: HoldingsSettings = Field(
        default_factory=HoldingsSettings,
        description="What of the held studies others may find and retrieve.",
    )
    dicomweb: DicomwebSettings = Field(
        default_factory=DicomwebSettings,
        description="What is held of DICOM, searched and retrieved over HTTP.",
    )
    manifest: ManifestSettings | None = Field(
        default=None,
        description="The manifest of each imaging study; empty: none is made.",
    )
    log: LogSettings = Field(default_factory=LogSettings, description="Logs.")
    sources: list[SourceSettings] = Field(
        default_factory=list,
        max_length=200,
        description="Ways in; empty: one for each protocol, and a folder for CDA.",
    )
    destinations: list[DestinationSettings] = Field(
        default_factory=_record_alone,
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
        if self.manifest is not None and MANIFEST_SOURCE in {each.name for each in self.sources}:
            raise ValueError(f"{MANIFEST_SOURCE} is the source of manifests: name yours otherwise")
        return self

    @model_validator(mode="after")
    def _manifests_need_a_record(self) -> Settings:
        kinds = {destination.type for destination in self.destinations}
        if self.manifest is not None and "record" not in kinds:
            raise ValueError("manifest needs the built-in record among the destinations")
        return self

    @model_validator(mode="after")
    def _bell_of_the_journal(self) -> Settings:
        if self.broker.url == POSTGRESQL and not self.journal.url.startswith("postgresql"):
            raise ValueError("broker.url is postgresql, but journal.url is none of PostgreSQL")
        if not self.broker.url.startswith("amqp"):
            return self
        named = urlsplit(self.broker.url)
        if named.username and not named.password:
            raise ValueError("broker.url of RabbitMQ names a user without a password")
        if find_spec("pika") is None:
            raise ValueError(
                'broker.url is of RabbitMQ, whose client is missing: pip install "ecluse[rabbitmq]"'
            )
        return self

    @model_validator(mode="after")
    def _leases_outlast_attempts(self) -> Settings:
        known = {source.name for source in self.sources}
        if known and self.manifest is not None:
            known.add(MANIFEST_SOURCE)
        for each in self.destinations:
            unknown = sorted(set(each.sources) - known) if known else []
            if unknown:
                raise ValueError(f"destination {each.name}: no source is named {unknown[0]}")
            if isinstance(each, ElsewhereSettings):
                longest = LEASE_SHARE * self.worker.lease_seconds
                if each.timeout_seconds > longest:
                    raise ValueError(
                        f"destination {each.name}: timeout_seconds is more than {longest:g}, four "
                        "fifths of worker.lease_seconds: another worker would begin meanwhile"
                    )
        return self

    def journal_url(self) -> str:
        """The SQLAlchemy URL that is really used."""
        return self.journal.url or f"sqlite:///{self.state.absolute() / 'journal.sqlite'}"


def default_sources(state: Path) -> list[Any]:
    """One source for each protocol, on customary loopback ports: a gateway without a file."""
    return [
        MllpSourceSettings(name="hl7", type="mllp", listen="127.0.0.1:2575"),
        DicomSourceSettings(name="dicom", type="dicom", listen="127.0.0.1:11112"),
        DicomwebSourceSettings(name="dicomweb", type="dicomweb"),
        CdaHttpSourceSettings(name="cda", type="cda-http"),
        CdaFolderSourceSettings(name="cda-folder", type="cda-folder", path=state / "drop"),
        Hl7HttpSourceSettings(name="hl7-http", type="hl7-http"),
        HprimHttpSourceSettings(name="hprim", type="hprim-http"),
        XdmHttpSourceSettings(name="xdm", type="xdm-http"),
    ]


@dataclass(frozen=True)
class Loaded:
    """Settings, and where in the file each of them stands."""

    settings: Settings
    file: SettingsFile

    def problem(self, place: Place, said: str) -> str:
        """``file:line:column: setting: what``, as a line of a ConfigurationError."""
        return self.file.problem(place, said)


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
    return read_settings(path, environment=environment, overrides=overrides).settings


def read_settings(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """As :func:`load_settings`, with the places. Raises ConfigurationError."""
    if path is None and Path(DEFAULT_FILE).is_file():
        path = Path(DEFAULT_FILE)
    file = SettingsFile.read(path) if path is not None else SettingsFile()
    for name, value in (os.environ if environment is None else environment).items():
        if (name.startswith(ENVIRONMENT_PREFIX) and "__" in name) or name == "ECLUSE_STATE":
            file.set(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"), value)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            file.set(dotted.split("."), value)
    try:
        settings = Settings.model_validate(file.tree)
    except ValidationError as error:
        raise ConfigurationError(_problems(error, file)) from None
    if not settings.sources:
        settings = settings.model_copy(update={"sources": default_sources(settings.state)})
    problems = [file.problem(place, said) for place, said in conflicts(settings)]
    if problems:
        raise ConfigurationError(problems)
    return Loaded(settings, file)


def _problems(error: ValidationError, file: SettingsFile) -> list[str]:
    return [
        # A tagged union puts the tag into the location; the file does not have it.
        file.problem(tuple(part for part in each["loc"] if part not in _TAGS), each["msg"])
        for each in error.errors(include_url=False, include_input=False)
    ]


_TAGS = frozenset(
    {
        *("mllp", "dicom", "dicomweb", "dicom-folder", "cda-http", "cda-folder"),
        *("hl7-http", "hl7-folder", "hprim-http", "hprim-folder"),
        *("record", "fhir"),
        *("xdm-http", "xdm-folder", "xds"),
        *("imap", "smtp"),
    }
)


def conflicts(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Sources that want the same port or folder, by the place of the later one.

    Only MLLP sources can share a port: when they have the same TLS, which asks every client
    for its certificate, and each names its own clients.
    """
    first: dict[object, int] = {}
    for index, each in enumerate(settings.sources):
        place = "path" if isinstance(each, FolderDoorSettings) else "listen"
        wanted = getattr(each, place, None)
        if isinstance(each, ImapSourceSettings):
            place, wanted = "mailbox", f"{each.user} at {each.server}, {each.mailbox}"
        if wanted is None or (place == "listen" and str(wanted).endswith(":0")):
            continue
        if wanted == settings.http.listen:
            yield ("sources", index, place), f"{wanted} is the address of http.listen"
        if wanted in first:
            said = _unshareable(settings.sources[first[wanted]], each)
            if said:
                yield ("sources", index, place), said
        first.setdefault(wanted, index)


def _unshareable(one: SourceSettings, other: SourceSettings) -> str:
    """Why two sources cannot have the same address or folder; empty when they can."""
    said = f"source {one.name} has the same"
    if not (isinstance(one, MllpSourceSettings) and isinstance(other, MllpSourceSettings)):
        return said
    if one.tls is None or one.tls != other.tls:
        return f"{said}: sources that share a port have the same tls"
    if not one.tls.knows_clients or not one.clients or not other.clients:
        return (
            f"{said}: sources that share a port are told apart by certificates, "
            "so tls.client_ca and the clients of each are needed"
        )
    both = sorted(set(one.client_names()) & set(other.client_names()), key=str)
    return f"{said} and the client {both[0].kind}:{both[0].value}" if both else ""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration file, for editors."""
    schema = Settings.model_json_schema()
    for definition in schema["$defs"].values():
        # The kind of a source chooses how its block is read, so that it must stand there.
        if "const" in definition.get("properties", {}).get("type", {}):
            kind = definition["properties"]["type"]["const"]
            if kind in _TAGS and "type" not in definition.setdefault("required", []):
                definition["required"].append("type")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Écluse",
        **{key: value for key, value in schema.items() if key != "title"},
    }
