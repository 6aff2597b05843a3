"""One HL7 v2 message drawn as a tree, or as plain values for JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.hl7.message import Message
from adapters.hl7.outline import GroupOutline, Part, SegmentOutline, outline, visible
from adapters.hl7.scopes import MessageScope

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

LONG = 200
"""Characters of a value that is shown whole."""
UNFOLDED = 1 << 24


def shortened(text: str) -> str:
    """A long text's beginning and its length."""
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text)} characters)"


def plain(message: Message) -> dict[str, Any]:
    """Everything of a message, for JSON. Undecodable bytes stand as ``‹E9›``."""
    scope = MessageScope(message)
    return {**_facts(scope), "content": [_plain(each) for each in outline(scope).content]}


def _facts(scope: MessageScope) -> dict[str, Any]:
    message = scope.message
    message_type, event, _ = scope.structure
    return {
        "type": f"{message_type}^{event}" if event else message_type,
        "version": message.version,
        "structure": scope.structure_name,
        "control_id": visible(message.text(0, 10)),
        "character_set": message.charset.name,
        "bytes": len(message.raw),
        "segments": len(message.segments),
    }


def _plain(each: GroupOutline | SegmentOutline) -> dict[str, Any]:
    if isinstance(each, GroupOutline):
        content = [_plain(inner) for inner in each.content]
        return {"group": each.name, "ordinal": each.ordinal, "content": content}
    return {
        "segment": each.name, "path": each.path, "name": each.title, "offset": each.offset,
        "length": each.length, "fields": [_part(part) for part in each.fields],
    }  # fmt: skip


def _part(part: Part) -> dict[str, Any]:
    made: dict[str, Any] = {
        "path": part.path, "name": part.name, "datatype": part.datatype,
        "offset": part.offset, "length": part.length, "written": visible(part.written),
    }  # fmt: skip
    if part.null:
        made["null"] = True
    elif part.parts:
        made["parts"] = [_part(each) for each in part.parts]
    else:
        made["text"] = visible(part.text)
    return made


def draw(file: Path, number: int, message: Message, *, raw: bool, full: bool) -> None:
    """Print a message as a tree: in colour on a terminal."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    scope = MessageScope(message)
    facts = _facts(scope)
    head = Text(f"{file}#{number}", style="bold")
    named = (facts["type"], facts["version"], facts["structure"], facts["character_set"])
    head.append("  " + " · ".join(filter(None, named)), style="dim")
    root = Tree(head, guide_style="dim")
    _Drawing(raw=raw, full=full).group(root, outline(scope))
    # Into a pipe or a file a line is a line; on a terminal it is folded at its width.
    width = None if sys.stdout.isatty() else UNFOLDED
    Console(width=width, highlight=False).print(root)


class _Drawing:
    """How parts become lines."""

    def __init__(self, *, raw: bool, full: bool) -> None:
        self._raw = raw
        self._full = full

    def group(self, tree: Tree, group: GroupOutline) -> None:
        """Draw what a group holds."""
        from rich.text import Text

        for each in group.content:
            if isinstance(each, GroupOutline):
                name = Text(f"{each.name}({each.ordinal})", style="magenta")
                self.group(tree.add(name), each)
                continue
            line = Text(each.path, style="bold cyan")
            line.append(self._position(each.offset, each.length), style="dim")
            line.append(f" {each.title}" if each.title else "", style="italic")
            branch = tree.add(line)
            for part in each.fields:
                self.part(branch, part)

    def part(self, tree: Tree, part: Part) -> None:
        """Draw a field or a part; a field of one part is one line."""
        branch = tree.add(self._line(part))
        # Written as it is, a repetition says all of its parts.
        for each in () if self._raw and not _repeats(part) else part.parts:
            self.part(branch, each)

    def _line(self, part: Part) -> Text:
        from rich.text import Text

        line = Text(part.path, style="cyan")
        line.append(self._position(part.offset, part.length), style="dim")
        line.append(f" {part.name}" if part.name else "")
        line.append(f" {part.datatype}" if part.datatype else "", style="dim")
        if part.null:
            line.append('  ""', style="yellow")
            line.append(" null: deletes", style="dim")
        elif self._raw and not _repeats(part):
            self._text(line, part.written)
        elif not part.parts:
            self._text(line, part.text)
        return line

    def _text(self, line: Text, text: str) -> None:
        shown = visible(text)
        line.append("  ")
        style = "bold red" if any("\udc00" <= c <= "\udcff" for c in text) else "green"
        line.append(shown if self._full else shortened(shown), style=style)

    def _position(self, offset: int, length: int) -> str:
        return f" @{offset}+{length}" if self._raw else ""


def _repeats(part: Part) -> bool:
    """Is it a whole field with several repetitions below it?"""
    return bool(part.parts) and part.parts[0].path.count("(") > part.path.count("(")
