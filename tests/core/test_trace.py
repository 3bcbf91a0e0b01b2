"""What `portwatch trace` asks of the switch, for what an operator types; agent and switch are stand-ins."""

import json
from typing import Any

import click
import pytest

from portwatch.cli import trace
from portwatch.config import Config

UNREACHED = "hv2 has no tunnel address"
PORTS = [
    {"port_id": "web", "interface": "tapweb", "ofport": 5, "mac": "fa:16:3e:00:00:01", "fixed_ips": ["10.0.0.1"]},
    {"port_id": "bad", "interface": "tapbad", "ofport": 6, "mac": None, "fixed_ips": ["10.0.0.6"]},
]
STATION = {
    "network_id": "blue",
    "mac": "fa:16:3e:00:00:02",
    "fixed_ips": ["10.0.0.2"],
    "reason": UNREACHED,
    "claims": [{"host": "hv2", "port_id": "db", "tunnel_ip": None}],
}
MISS = 'bridge("br-tun")\n----------------\n22. reg0=0x2, priority 0\n    drop\n'


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer in place of the agent and of the switch; return the packets that the switch was asked about."""
    here = {"network_id": "blue", "status": "ACTIVE", "reason": None}
    own = [
        {**STATION, **row, "reason": None, "claims": [{"host": "hv1", "port_id": row["port_id"], "tunnel_ip": None}]}
        for row in PORTS
        if row["mac"]
    ]
    says = {"ports": [{**row, **here} for row in PORTS], "fdb": [STATION, *own]}
    packets: list[str] = []

    def follow(_rundir: Any, _bridge: str, packet: str) -> str:
        packets.append(packet)
        return MISS

    monkeypatch.setattr("portwatch.cli.query.ask", lambda _, question: says[question])
    monkeypatch.setattr("portwatch.switch.appctl.trace", follow)
    return packets


def tell(name: str, destination: str) -> None:
    trace.trace(Config(), name, destination, None, raw=False, as_json=True)


@pytest.mark.parametrize("destination", ["10.0.0.9", "fd00::9"])
def test_a_port_whose_mac_is_wrong_asks_with_a_stand_in(asked: list[str], destination: str) -> None:
    tell("bad", destination)

    (question,) = asked
    assert question.count(trace.NOBODYS) == 2
    assert "None" not in question


@pytest.mark.parametrize(("name", "mac"), [("db", "fa:16:3e:00:00:02"), ("tapweb", "fa:16:3e:00:00:01")])
def test_a_ports_name_is_a_destination_too(asked: list[str], name: str, mac: str) -> None:
    tell("web", name)

    question, ping = asked
    assert question.startswith("in_port=5,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,arp,")
    assert f"dl_dst={mac}" in ping


def test_what_is_no_destination_is_wrong_usage(asked: list[str]) -> None:
    with pytest.raises(click.UsageError, match="no port of its network"):
        tell("web", "somewhere")
    assert asked == []


def test_why_nobody_gets_what_is_flooded_is_why_the_others_are_not_reached(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tell("web", "10.0.0.9")

    (told,) = json.loads(capsys.readouterr().out)
    assert asked
    assert told["dropped"].endswith(f"no other host to flood to: {UNREACHED}")
