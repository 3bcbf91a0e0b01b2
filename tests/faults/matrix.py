"""All rows of the matrix, in the order in which they are printed."""

from tests.faults import broker, clocks, hostile, ovsdb, restarts, switch
from tests.faults.fault import Fault

CHAPTERS = (restarts.ROWS, switch.ROWS, ovsdb.ROWS, broker.ROWS, hostile.ROWS, clocks.ROWS)

FAULTS: dict[str, Fault] = {f"{rows.about}: {fault.name}": fault for rows in CHAPTERS for fault in rows.faults}
