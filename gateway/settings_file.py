"""A YAML file of settings that remembers where each value stands.

Every scalar is kept as the text that stands there, for the setting's own type to convert.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONFIGURATION_BYTES_MAX = 1 << 20
Place = tuple[str | int, ...]


class ConfigurationError(Exception):
    """The configuration cannot be used. One line per problem, ``file:line:col: what``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass
class SettingsFile:
    """The tree of a file, and the line and column of each of its places."""

    path: Path | None = None
    tree: dict[str, Any] = field(default_factory=dict)
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> SettingsFile:
        """Read a file. Raises ConfigurationError."""
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
        except yaml.YAMLError as error:  # a character that YAML does not know
            raise ConfigurationError([f"{path}: {str(error).splitlines()[0]}"]) from None
        except RecursionError:
            raise ConfigurationError([f"{path}: nested too deeply"]) from None
        found = cls(path)
        tree = {} if node is None else found._plain(node, ())
        if not isinstance(tree, dict):
            raise ConfigurationError([f"{path}:1:1: a mapping of settings is expected"])
        found.tree = tree
        return found

    def _plain(self, node: yaml.Node, place: Place) -> Any:
        self.marks[place] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.ScalarNode):
            empty = node.tag == "tag:yaml.org,2002:null" and node.value in ("", "null", "~")
            return None if empty else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*place, i)) for i, item in enumerate(node.value)]
        tree: dict[str, Any] = {}
        for key, value in node.value:
            at = f"{self.path}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigurationError([f"{at}: a key must be a plain word"])
            if key.value in tree:
                first = self.marks[(*place, key.value)]
                raise ConfigurationError(
                    [f"{at}: {key.value} stands twice (first at line {first[0]})"]
                )
            tree[key.value] = self._plain(value, (*place, key.value))
        return tree

    def set(self, names: list[str], value: Any) -> None:
        """Override one value. Raises ConfigurationError when its block is none."""
        tree = self.tree
        for name in names[:-1]:
            branch = tree.setdefault(name, {})
            if not isinstance(branch, dict):
                raise ConfigurationError([f"{'.'.join(names)}: {name} is no block"])
            tree = branch
        tree[names[-1]] = value

    def problem(self, place: Place, said: str) -> str:
        """``file:line:column: setting: what``; the nearest place that the file has."""
        known = place
        while known and known not in self.marks:
            known = known[:-1]
        line, column = self.marks.get(known, (1, 1))
        where = f"{self.path}:{line}:{column}" if self.marks else "configuration"
        return f"{where}: {'.'.join(map(str, place)) or 'settings'}: {said}"
