"""The `portwatch` command (docs/contract.md, section 1)."""

from portwatch.cli.main import main as main
