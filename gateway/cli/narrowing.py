"""The part of the command tree that an invocation needs.

Typer looks at every parameter of every command before it runs one of them, which takes a third
of a second: more than most of the commands themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import typer
from typer.models import CommandInfo


def narrowed(tree: typer.Typer, words: Sequence[str]) -> typer.Typer:
    """The tree with only the command that the first of these words name.

    What they do not name to the letter (an option before it, help, a wrong word, nothing) is
    answered by the whole tree, which knows what to list or to suggest. ``tree`` stays as it is.
    """
    if not words:
        return tree
    commands = [each for each in tree.registered_commands if _name(each) == words[0]]
    groups = [each for each in tree.registered_groups if each.name == words[0]]
    if len(commands) + len(groups) != 1:
        return tree
    part = copy(tree)
    part.registered_commands, part.registered_groups = commands, []
    for group in groups:
        inner = copy(group)
        if group.typer_instance is not None:
            inner.typer_instance = narrowed(group.typer_instance, words[1:])
        part.registered_groups.append(inner)
    return part


def _name(command: CommandInfo) -> str:
    if command.name is not None or command.callback is None:
        return command.name or ""
    return command.callback.__name__.replace("_", "-")
