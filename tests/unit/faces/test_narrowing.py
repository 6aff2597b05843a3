"""The command line builds the command that is asked for, and looks as if it had built all."""

from __future__ import annotations

import pytest
import typer

from gateway.cli import main
from gateway.cli.application import app
from gateway.cli.narrowing import narrowed


def test_one_command_is_left() -> None:
    part = narrowed(app, ["mapping", "check", "a.yaml"])
    (group,) = part.registered_groups
    assert part.registered_commands == []
    assert group.typer_instance is not None
    assert [each.name for each in group.typer_instance.registered_commands] == ["check"]
    assert len(app.registered_groups) > 1, "the tree itself stays whole"


@pytest.mark.parametrize("words", [[], ["--help"], ["runn"], ["--version"]])
def test_what_names_no_command_is_for_the_whole_tree(words: list[str]) -> None:
    assert narrowed(app, words) is app


@pytest.mark.parametrize(
    "words",
    [
        "run -h", "mapping -h", "mapping check -h", "mapping chek", "dead jobs -h", "dead jobs x",
        "send --nope", "status extra",
    ],
)  # fmt: skip
def test_it_says_the_same_as_the_whole_tree(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(words.split())
    said = capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        typer.main.get_command(app)(args=words.split(), prog_name="ecluse")
    assert code == ended.value.code
    assert capsys.readouterr() == said
