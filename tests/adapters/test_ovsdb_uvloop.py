"""OVSDB on the other event loop: uvloop has readers, writers and timers of its own."""

from pathlib import Path

import pytest

from tests.adapters.ovsdb_reader import link_when, reading, running_server, set_tag

pytestmark = pytest.mark.adapters


def test_reading_writing_and_coming_back_work_on_uvloop_too(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")
    with running_server(tmp_path) as server:

        async def story() -> None:
            async with reading(server) as reader:
                for tag in range(1, 4):
                    server.kill()
                    await link_when(reader.database, connected=False)
                    server.start()
                    assert (await reader.next()).whole
                    await reader.database.transact(set_tag(reader, tag))
                    await reader.until("Port", name="br-int", tag=tag)

        uvloop.run(story())
