"""The manual page, and what every command says of itself."""

import click
import pytest
from click.testing import CliRunner

from portwatch.cli import main
from portwatch.cli.man import page
from tests.core.test_golden import is_golden

COMMANDS = {
    **{name: command for name, command in main.commands.items() if not isinstance(command, click.Group)},
    **main.commands["directory"].commands,  # type: ignore[attr-defined]
}


def test_the_page_in_docs_is_current() -> None:
    is_golden("../../docs/portwatch.1", page(main))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_says_what_it_does_with_an_example_that_names_it(name: str) -> None:
    assert COMMANDS[name].help is not None
    example = (COMMANDS[name].help or "").partition("Example: ")[2]

    assert f"portwatch {name}" in example.replace("directory ", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell: str) -> None:
    ended = CliRunner().invoke(main, ["completion", shell])

    assert ended.exit_code == 0
    assert "_PORTWATCH_COMPLETE" in ended.output


def test_completion_is_silent_when_no_agent_runs() -> None:
    words = {"COMP_WORDS": "portwatch explain ", "COMP_CWORD": "2", "_PORTWATCH_COMPLETE": "bash_complete"}
    words["PORTWATCH_HTTP__LISTEN"] = "127.0.0.1:1"

    ended = CliRunner().invoke(main, [], prog_name="portwatch", env=words)

    assert (ended.exit_code, ended.output.strip()) == (0, "")


def test_a_payload_is_printed_as_a_schema() -> None:
    ended = CliRunner().invoke(main, ["schema", "manifest"])

    assert '"title": "ManifestMessage"' in ended.output
