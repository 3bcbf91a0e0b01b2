"""The manual page, made of the commands themselves: `docs/portwatch.1`, which a test keeps current. Pure."""

from collections.abc import Iterator

import click

ENDING = """\
.SH EXIT STATUS
0: done, or stopped by a signal. 1: anything that is not 2 or 3, a fault that doctor found among them. 2: wrong usage or
configuration; the message names file, key, value and what would be right. 3: another running agent owns this host name
or this tunnel address.
.SH FILES
.TP
.I /etc/portwatch/portwatch.toml
The configuration, if neither \\-\\-config nor the variable PORTWATCH_CONFIG names another.
.SH ENVIRONMENT
.TP
.I PORTWATCH_SECTION__KEY
Sets a key of the configuration, and wins over the file: PORTWATCH_BUS__URL.
.TP
.I NO_COLOR
No colours, on a terminal either.
.SH SEE ALSO
.BR ovs-vsctl (8),
.BR ovs-ofctl (8),
.BR ovs-appctl (8),
.BR mosquitto.conf (5)
"""


def page(program: click.Group) -> str:
    """Return the manual page of *program* as roff; man(7)."""
    context = click.Context(program, info_name="portwatch")
    about = _text(program.help or "")
    lines = [
        '.TH PORTWATCH 1 "" portwatch "Commands"',
        ".SH NAME",
        f"portwatch \\- {about[0].lower()}{about[1:].rstrip('.')}",
        ".SH SYNOPSIS",
        ".B portwatch",
        "COMMAND [OPTIONS] [ARGUMENTS]",
        ".SH COMMANDS",
        *_commands(program, context),
    ]
    return "\n".join(lines) + "\n" + ENDING


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.commands[name]
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
            continue
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f".SS {_text(f'{inner.command_path} {usage}')}"
        for paragraph in (command.help or "").split("\n\n"):
            yield ".PP"
            yield _text(" ".join(paragraph.split()))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(inner)) is not None:
                yield from (".TP", f".B {_text(record[0])}", _text(record[1]))


def _text(words: str) -> str:
    """Return *words* so that roff takes nothing in them for its own."""
    return words.replace("\\", "\\e").replace("-", "\\-").replace("`", "").replace("\n.", "\n\\&.")
