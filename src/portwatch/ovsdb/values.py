"""OVSDB's values as plain Python, both ways. Pure."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any


def plain(datum: Any) -> object:
    """Return a datum of python-ovs as a value of its own; the IDL changes the datum in place."""
    if datum.type.is_map():
        return {key.value: value.value for key, value in datum.values.items()}
    if datum.type.n_max == 1:
        return next((atom.value for atom in datum.values), None)
    return frozenset(atom.value for atom in datum.values)


def for_ovs(value: object) -> object:
    """Return a plain value as python-ovs wants it: an unset scalar is an empty list, a set is a list."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Collection) and not isinstance(value, str):
        return list(value)
    return value


def texts(value: object) -> Iterable[str]:
    """Every string in a plain value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from texts(pair)
    elif isinstance(value, Collection):
        for part in value:
            yield from texts(part)


def refusal(text: str) -> str:
    """Return ovsdb-server's refusal of a transaction, which comes as JSON, as words."""
    try:
        said = json.loads(text)
        return ": ".join(str(said[part]) for part in ("error", "details") if part in said) or text
    except (ValueError, TypeError):
        return text
