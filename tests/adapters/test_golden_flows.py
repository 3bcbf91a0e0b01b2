"""The golden files against a real switch: it takes what they say, and what it then holds is what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portwatch.fabric.purpose import farewell
from portwatch.fabric.tables import GROUPS, OWN
from portwatch.openflow import parse
from portwatch.openflow.flow import Item
from portwatch.openflow.ledger import Ledger
from portwatch.switch.ofctl import OfCtl
from tests.adapters.vswitchd import VSwitchd, a_switch

pytestmark = [pytest.mark.adapters, pytest.mark.asyncio]

GOLDEN = Path(__file__).parent.parent / "golden"
BRIDGES = ("br-int", "br-tun")


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VSwitchd]:
    with a_switch(tmp_path_factory.mktemp("golden")) as switch:
        for bridge in BRIDGES:
            switch.add_bridge(bridge)
        yield switch


def golden(name: str) -> dict[str, list[Item]]:
    """Return a host's items, by bridge."""
    sections = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").split("# ")[1:]
    lines = {head: body for head, _, body in (section.partition("\n") for section in sections)}
    return {bridge: [read(line) for line in lines[bridge].splitlines() if line] for bridge in BRIDGES}


def read(line: str) -> Item:
    return parse.group(line) if line.startswith("group_id=") else parse.flow(line)


def text_of(items: list[Item]) -> list[str]:
    return sorted(item.text() for item in items)


@pytest.mark.parametrize("name", ["hv1", "hv2", "hv3"])
async def test_a_real_switch_holds_what_the_golden_file_says(name: str, switch: VSwitchd) -> None:
    wanted = golden(name)

    async with OfCtl(switch.rundir) as ofctl:
        for bridge, items in wanted.items():
            ledger = Ledger(OWN, farewell)
            ledger.want("golden", items)
            ledger.read_back(await held(ofctl, bridge))
            await ofctl.commit(bridge, ledger.take().text())

            assert len(items) > 20
            assert text_of(await held(ofctl, bridge)) == text_of(items)


async def held(ofctl: OfCtl, bridge: str) -> list[Item]:
    """Return what the bridge holds of ours."""
    flows = parse.flows(await ofctl.dump_flows(bridge, OWN.cookie, OWN.mask))
    return [*parse.groups(await ofctl.dump_groups(bridge), GROUPS), *flows]
