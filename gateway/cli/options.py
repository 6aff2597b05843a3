"""Options that commands share, and how they find the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.settings import Loaded, Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c",
        help="The configuration file. Without it: ecluse.yaml here, else the defaults.",
        envvar="ECLUSE_CONFIG", metavar="FILE", show_default=False,
    ),
]  # fmt: skip
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state-folder",
        help="The state folder; wins over the configuration.",
        metavar="FOLDER",
        show_default=False,
    ),
]


def row_number(given: str) -> int:
    """The number of a row of the journal (a message, a dead letter, a job, a version), as it was
    typed: the ``parser`` of every parameter that names one. Raises BadParameter for what is no
    number, and for one that no row can have, before a database is asked."""
    from gateway.row_number import ROW_NUMBER_MAX

    if not given.isascii() or not given.isdecimal():
        raise typer.BadParameter(f"{given!r} is not a valid integer.")
    # Of a text of any length no more digits are read than a number can have.
    digits = given.lstrip("0")
    if len(digits) > len(str(ROW_NUMBER_MAX)) or int(digits or "0") > ROW_NUMBER_MAX:
        raise typer.BadParameter(f"numbers go up to {ROW_NUMBER_MAX}; this one is higher")
    return int(digits or "0")


BeforeOption = Annotated[
    int | None,
    typer.Option(
        help="Only with a lower number.", show_default=False, parser=row_number, metavar="NUMBER"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings(
    config: Path | None, state: Path | None, overrides: dict[str, Any] | None = None
) -> Settings:
    """The effective settings. Raises ConfigurationError."""
    return loaded(config, state, overrides).settings


def loaded(
    config: Path | None, state: Path | None, overrides: dict[str, Any] | None = None
) -> Loaded:
    """The effective settings with their places in the file. Raises ConfigurationError."""
    from gateway.settings import read_settings
    from gateway.settings_file import ConfigurationError

    if config is not None and not config.is_file():
        raise ConfigurationError([f"{config}: there is no such file"])
    given = dict(overrides or {})
    if state is not None:
        given["state"] = str(state)
    return read_settings(config, overrides=given)
