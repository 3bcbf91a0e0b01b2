"""`portwatch doctor`: what is wrong with this host, what it means, and what to do; status 1 if there is a fault."""

import asyncio
import json
import sys
from dataclasses import asdict

import click

from portwatch.cli.options import hush
from portwatch.cli.table import COLOURS, colourful, printable
from portwatch.config import Config
from portwatch.doctor.finding import Finding, Severity
from portwatch.doctor.findings import examine
from portwatch.doctor.look import look


def doctor(config: Config, as_json: bool) -> None:
    """Look, and print what was found."""
    hush("critical")  # what the parts would warn of is a finding
    findings = examine(asyncio.run(look(config)))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif not findings:
        click.echo("nothing is wrong with this host")
    else:
        click.echo("\n".join(map(_text, findings)), nl=False)
    if any(finding.severity is Severity.FAULT for finding in findings):
        sys.exit(1)


def _text(finding: Finding) -> str:
    severity = click.style(finding.severity, fg=COLOURS[finding.severity]) if colourful() else finding.severity
    lines = (f"{printable(finding.what)}", finding.means, f"→ {printable(finding.todo)}")
    return f"{severity}: {finding.name}\n" + "".join(f"  {line}\n" for line in lines)
