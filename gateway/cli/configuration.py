"""``ecluse config``: what is in force."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import data

MASK = "***"


def config(
    config: ConfigOption = None,
    state: StateOption = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the file instead.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Print the settings in force as YAML: file, environment and flags, secrets masked."""
    if schema:
        from gateway.settings import Settings

        data(Settings.model_json_schema())
        return
    tree = mask(settings(config, state).model_dump(mode="json"))
    if json_output:
        data(tree)
        return
    import yaml

    typer.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


def mask(tree: Any) -> Any:
    """The same tree with passwords in URLs, and values of secret names, hidden."""
    if isinstance(tree, dict):
        return {key: MASK if value and _secret(key) else mask(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mask(value) for value in tree]
    return _without_password(tree) if isinstance(tree, str) and "://" in tree else tree


def _secret(name: str) -> bool:
    # A *file* that holds a secret is named in the open; its content is not shown anywhere.
    return not name.endswith(("_file", "_folder")) and any(
        word in name for word in ("password", "secret", "token")
    )


def _without_password(url: str) -> str:
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    netloc, query = parts.netloc, parts.query
    if "@" in netloc:
        user, _, host = netloc.rpartition("@")
        name, colon, password = user.partition(":")
        netloc = f"{name}{':' + MASK if colon and password else ''}@{host}"
    if "password=" in query:
        query = "&".join(
            f"password={MASK}" if pair.startswith("password=") else pair
            for pair in query.split("&")
        )
    return urlunsplit(parts._replace(netloc=netloc, query=query))
