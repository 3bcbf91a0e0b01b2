"""What a shell may offer for a word that is being typed: names that the local agent knows, if it runs."""

from collections.abc import Callable, Sequence

import click

from portwatch.errors import PortwatchError

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def script(program: click.Command, shell: str) -> str:
    """Return what a shell must read to complete `portwatch`."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that we offer"
    return kind(program, {}, "portwatch", "_PORTWATCH_COMPLETE").source()


def names(question: str, columns: Sequence[str]) -> Complete:
    """Offer what stands in *columns* of the answer to *question*."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
        from portwatch.cli import query
        from portwatch.cli.options import configured

        try:
            rows = query.ask(configured(context.params.get("config")), question)
        except PortwatchError:
            return []
        found = {row[column] for row in rows for column in columns if row.get(column)}
        return sorted(name for name in found if name.startswith(incomplete))

    return complete
