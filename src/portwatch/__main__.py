"""`python -m portwatch` is the `portwatch` command."""

from portwatch.cli import main

main()
