"""``ecluse config``: what is in force, and whether a file could be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, loaded, settings
from gateway.cli.output import Code, data, say

MASK = "***"


app = typer.Typer(invoke_without_command=True, no_args_is_help=False)


@app.callback()
def config(
    context: typer.Context,
    config: ConfigOption = None,
    state: StateOption = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the file instead.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Print the settings in force as YAML: file, environment and flags, secrets masked."""
    if context.invoked_subcommand is not None:
        return
    if schema:
        from gateway.settings import json_schema

        data(json_schema())
        return
    tree = mask(settings(config, state).model_dump(mode="json"))
    if json_output:
        data(tree)
        return
    import yaml

    typer.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


@app.command("check")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The configuration file; without it the one that ecluse run would take.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Say whether a configuration can be used, without starting anything.

    Every problem is one line with file, line and column, exit 2. The files that it names (keys,
    certificates, the token) are read; ports are not tried. Certificates that expire are told.
    """
    from gateway.cli.checks import Level, certificate_checks, unusable_files
    from gateway.settings_file import ConfigurationError

    try:
        found = loaded(file or config, None)
        problems = unusable_files(found)
        checks = [] if problems else list(certificate_checks(found.settings))
    except ConfigurationError as error:
        problems, checks = error.problems, []
    told = [each for each in checks if each.level is not Level.OK]
    if json_output:
        data({"problems": problems, "warnings": [f"{each.name}: {each.found}" for each in told]})
    else:
        for problem in problems:
            say(f"ecluse: {problem}")
        for each in told:
            say(f"ecluse: {each.name}: {each.found}. {each.advice}")
    if problems:
        raise typer.Exit(Code.USAGE)
    if any(each.level is Level.ERROR for each in told):
        raise typer.Exit(Code.FINDINGS)
    if not json_output:
        say("The configuration can be used.")


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
    pairs = [pair.partition("=") for pair in query.split("&")]
    query = "&".join(
        f"{name}={MASK}" if value and _secret(name.lower()) else name + equals + value
        for name, equals, value in pairs
    )
    return urlunsplit(parts._replace(netloc=netloc, query=query))
