"""`portwatch schema`: the contract for programs, printed."""

import json

import click

from portwatch import schema

NAMES = tuple(schema.PAYLOADS)


def show(name: str | None, as_asyncapi: bool, prefix: str) -> None:
    """Print one payload's schema, all of them by name, or the topics as AsyncAPI."""
    if as_asyncapi:
        document = schema.asyncapi(prefix)
    elif name is not None:
        document = schema.payload(name)
    else:
        document = {each: schema.payload(each) for each in NAMES}
    click.echo(json.dumps(document, indent=2))
