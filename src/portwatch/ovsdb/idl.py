"""python-ovs's IDL, tamed: one connection's replica of the watched columns, and transactions on it.

What the library calls private is touched in `session` and here only.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

import ovs.db.custom_index
import ovs.db.data
import ovs.db.error
import ovs.db.idl

from portwatch.ovsdb.changes import RowChange
from portwatch.ovsdb.transaction import RowEdit
from portwatch.ovsdb.values import for_ovs, plain, refusal, texts

SUCCESS: Final[str] = ovs.db.idl.Transaction.SUCCESS
UNCHANGED: Final[str] = ovs.db.idl.Transaction.UNCHANGED
INCOMPLETE: Final[str] = ovs.db.idl.Transaction.INCOMPLETE
TRY_AGAIN: Final[str] = ovs.db.idl.Transaction.TRY_AGAIN


class Replica(ovs.db.idl.Idl):
    """The watched columns as this connection has told them. Photographs leave it, rows never do."""

    def __init__(
        self, session: Any, remote: str, schema: Mapping[str, Any], tables: Mapping[str, Collection[str]]
    ) -> None:
        self.schema = schema
        helper = ovs.db.idl.SchemaHelper(schema_json=schema)
        for table, columns in tables.items():
            helper.register_columns(table, list(columns))
        super().__init__(remote, helper, leader_only=False)
        self._session = session
        self.touched: dict[tuple[str, UUID], None] = {}
        for name, table in self.tables.items():
            table.rows = _Rows(table, name, self.touched)

    @property
    def loaded(self) -> bool:
        return bool(self.state == self.IDL_S_MONITORING)

    def notify(self, event: str, row: Any, updates: Any = None) -> None:  # noqa: ARG002  # the library's signature
        """Note what the library tells us of; `_Rows` notes what it keeps to itself."""
        self.touched[row._table.name, row.uuid] = None  # noqa: SLF001

    @property
    def version(self) -> int:
        """Another one after every change."""
        return int(self.change_seqno)

    @property
    def size(self) -> int:
        return sum(len(table.rows) for table in self.tables.values())

    def everything(self) -> Iterable[RowChange]:
        """Photographs of all rows."""
        for name, table in self.tables.items():
            for uuid in table.rows:
                yield RowChange(name, uuid, self.columns(name, uuid))

    def columns(self, table: str, uuid: UUID) -> Mapping[str, object] | None:
        """A photograph of a row's watched columns; None when there is no such row."""
        row = self.tables[table].rows.get(uuid)
        if row is None:
            return None
        data = row._data  # noqa: SLF001  # its attributes want the tables that are referred to replicated too
        return {name: plain(data[name]) for name in self.tables[table].columns}

    def check(self, table: str, column: str, value: object) -> None:
        """`ValueError` when ovsdb-server would not take this value, or would drop the connection for it."""
        try:
            kind = self.tables[table].columns[column].type
        except KeyError:
            raise ValueError(f"{table}.{column} is not a watched column") from None
        try:
            if isinstance(value, Mapping) is not kind.is_map():
                raise ValueError("it is a map" if kind.is_map() else "it is not a map")
            for text in texts(value):
                if "\0" in text.encode().decode():
                    raise ValueError("a string in OVSDB has no NUL character")
            ovs.db.data.Datum.from_python(kind, for_ovs(value), lambda atom: atom)
        except (ValueError, ovs.db.error.Error) as error:
            raise ValueError(f"{table}.{column} = {value!r}: {getattr(error, 'msg', error)}") from None

    def send(self, edits: Iterable[RowEdit]) -> "Sent":
        """Send the edits as one transaction."""
        transaction = ovs.db.idl.Transaction(self)
        try:
            for edit in edits:
                self._apply(transaction, edit)
            return Sent(transaction)
        except BaseException:
            transaction.abort()  # left open, it would stop the next run
            raise

    def _apply(self, transaction: Any, edit: RowEdit) -> None:
        rows = self.tables[edit.table].rows
        row = transaction.insert(rows.table, edit.uuid) if edit.new else rows[edit.uuid]
        for column in edit.verified:
            row.verify(column)
        for column, value in edit.values.items():
            setattr(row, column, for_ovs(value))
        for column, keys in edit.keys.items():
            for key, text in keys.items():
                if not edit.new:
                    row.delkey(column, key)  # inserting alone would leave a value that somebody else set
                if text is not None:
                    row.setkey(column, key, text)


class Sent:
    """A transaction that is under way, or over."""

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction
        self.status: str = transaction.commit()

    def ask(self) -> str:
        """How it stands after the last run."""
        self.status = self._transaction.commit()
        return self.status

    @property
    def words(self) -> str:
        """ovsdb-server's own, when it refused."""
        return refusal(str(self._transaction.get_error()))


class _Rows(ovs.db.custom_index.IndexedRows):
    """A table's rows, noting which come and go: `notify` is silent on a new row that has only defaults."""

    def __init__(self, table: Any, name: str, touched: dict[tuple[str, UUID], None]) -> None:
        super().__init__(table)
        self._name, self._touched = name, touched

    def __setitem__(self, uuid: UUID, row: Any) -> None:
        super().__setitem__(uuid, row)
        self._touched[self._name, uuid] = None

    def __delitem__(self, uuid: UUID) -> None:
        super().__delitem__(uuid)
        self._touched[self._name, uuid] = None
