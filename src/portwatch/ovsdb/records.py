"""What we write to OVSDB: a Port row's tag, and what the row remembers of us. Nothing else, and on no other table."""

from collections.abc import Mapping

from portwatch.fabric.reactor import PortRecord
from portwatch.model import PortId
from portwatch.ovsdb.picture import Picture
from portwatch.ovsdb.rows import INSTALLED_KEY, NETWORK_KEY, SEQ_KEY
from portwatch.ovsdb.transaction import Transaction


def write(picture: Picture, records: Mapping[PortId, PortRecord], transaction: Transaction) -> None:
    """Put *records* on the Port rows; a port that has gone meanwhile is passed over. Other writers' keys stay."""
    for port_id, record in records.items():
        uuid = picture.port_row(port_id)
        row = transaction.row("Port", uuid) if uuid else None
        if row is None:
            continue
        row.set_key("external_ids", SEQ_KEY, str(record.seq))
        row.set_key("external_ids", INSTALLED_KEY, "true" if record.installed else "false")
        if record.vlan is None or record.network_id is None:
            row.delete_key("external_ids", NETWORK_KEY)
        else:
            row.set("tag", int(record.vlan))
            row.set_key("external_ids", NETWORK_KEY, record.network_id)
