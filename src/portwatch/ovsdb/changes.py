"""What is read from OVSDB, as values: photographs of rows. No loop, no I/O: `rows` may import it."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class RowChange:
    """A photograph of a row; `columns` is None when the row is gone.

    A value is a str, int, float, bool or UUID (a reference); None for an optional scalar that is unset;
    a dict for a map; a frozenset for a set.
    """

    table: str
    uuid: UUID
    columns: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The newest photograph of each row that changed. `whole`: `rows` is all there is, the rest is gone."""

    whole: bool
    rows: tuple[RowChange, ...]
