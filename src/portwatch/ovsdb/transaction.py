"""A change to OVSDB, collected before it is sent: columns, keys of maps, new rows, what must be unchanged.

Values only; `idl` sends them. A wrong value is a `ValueError` where it is set, not a refusal of the whole
transaction later.
"""

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID, uuid4


class Shelf(Protocol):
    """What a transaction needs to know of the database it is meant for."""

    def columns(self, table: str, uuid: UUID) -> Mapping[str, object] | None: ...

    def check(self, table: str, column: str, value: object) -> None: ...


class RowEdit:
    """What shall become of one row. The last word on a column, or on a key, counts."""

    def __init__(self, shelf: Shelf, table: str, uuid: UUID, columns: Mapping[str, object] | None) -> None:
        self.table, self.uuid = table, uuid
        self.new = columns is None
        self.values: dict[str, object] = {}
        self.keys: dict[str, dict[str, str | None]] = {}
        self.verified: set[str] = set()
        self._shelf = shelf
        self._columns = columns or {}

    def get(self, column: str) -> object:
        """What the database holds, as in a `RowChange`. `verify` it when what is set depends on it."""
        return self._columns[column]

    def verify(self, column: str) -> None:
        """Apply the transaction only if this column is still what `get` says; else `build` is called anew."""
        if column not in self._columns:
            raise ValueError(f"{self.table}.{column} is not a watched column")
        self.verified.add(column)

    def set(self, column: str, value: object) -> None:
        """Replace the whole column; None unsets an optional scalar. In a map, others' keys would be lost."""
        self._shelf.check(self.table, column, value)
        self.values[column] = value
        self.keys.pop(column, None)

    def set_key(self, column: str, key: str, value: str) -> None:
        """Set one key of a map; the other keys stay whatever they are by then."""
        self._shelf.check(self.table, column, {key: value})
        self.keys.setdefault(column, {})[key] = value

    def delete_key(self, column: str, key: str) -> None:
        """Delete one key of a map; that it is absent already is no error."""
        self._shelf.check(self.table, column, {key: ""})
        self.keys.setdefault(column, {})[key] = None


class Transaction:
    """What a `build` function fills in: one attempt. A function that is called anew gets another one."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.edits: dict[tuple[str, UUID], RowEdit] = {}

    def row(self, table: str, uuid: UUID) -> RowEdit | None:
        """The row to change, or None when it is gone: that happens at any time and is no error."""
        if (known := self.edits.get((table, uuid))) is not None:
            return known
        columns = self._shelf.columns(table, uuid)
        return None if columns is None else self._edit(table, uuid, columns)

    def insert(self, table: str) -> RowEdit:
        """A new row. Its `uuid` stands for it in this transaction only; ovsdb-server gives it another one."""
        return self._edit(table, uuid4(), None)

    def _edit(self, table: str, uuid: UUID, columns: Mapping[str, object] | None) -> RowEdit:
        edit = self.edits[table, uuid] = RowEdit(self._shelf, table, uuid, columns)
        return edit
