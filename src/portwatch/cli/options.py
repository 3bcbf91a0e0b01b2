"""What the commands have in common: their options, and the exit status of what goes wrong.

0 done; 2 wrong usage or configuration; 3 identity taken; 1 anything else (docs/contract.md, section 1).
"""

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from portwatch.config import Config, Loaded, load
from portwatch.errors import ConfigurationError, IdentityTaken, PortwatchError
from portwatch.model import HostName

P = ParamSpec("P")

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration file (default: /etc/portwatch/portwatch.toml).",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")

_STATUSES = ((ConfigurationError, 2), (IdentityTaken, 3), (PortwatchError, 1))


def faults_as_exit_status(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what went wrong into one line on standard error and the contract's exit status."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (PortwatchError, BaseExceptionGroup) as error:
            # Not `except*`: what leaves such a clause is wrapped in a group once more, sys.exit's too (Python 3.11.2).
            fault = _first_fault(error)
            if fault is None:
                raise
        else:
            return
        click.echo(f"portwatch: {fault}", err=True)
        sys.exit(next(status for kind, status in _STATUSES if isinstance(fault, kind)))

    return guarded


def loaded(path: Path | None) -> Loaded:
    """Read the configuration; what is odd about it goes to standard error."""
    found = load(path, os.environ)
    for warning in found.warnings:
        click.echo(f"portwatch: {warning}", err=True)
    return found


def configured(path: Path | None) -> Config:
    return loaded(path).config


def hush(level: str = "warning") -> None:
    """Let a command say only what it has to say, and the parts that it uses only what is wrong, on standard error."""
    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def host_name(text: str) -> HostName:
    """Read a host's name as it was typed."""
    try:
        return HostName(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _first_fault(error: BaseException) -> PortwatchError | None:
    """Return the fault of ours in *error*, which a task group may have wrapped; None when another is beside it."""
    if isinstance(error, BaseExceptionGroup):
        ours, others = error.split(PortwatchError)
        return _first_fault(ours.exceptions[0]) if ours is not None and others is None else None
    return error if isinstance(error, PortwatchError) else None
