"""What the commands that ask the agent print for people; an agent that answers from a dict."""

import json
from http import HTTPStatus
from typing import Any

import pytest

from portwatch.cli import query, upkeep
from portwatch.config import Config
from portwatch.errors import PortwatchError


class Answering:
    """An agent with one port. It is drained, and no more, as it is told."""

    def __init__(self) -> None:
        self.leaving = False

    def ask(self, _: Config, question: str) -> Any:
        ports = [{"port_id": "web", "interface": "tapweb", "status": "ACTIVE"}]
        return {"ports": ports, "host": {"leaving": self.leaving}}.get(question, [])

    def act(self, _: Any, path: str, **__: Any) -> tuple[HTTPStatus, bytes]:
        self.leaving = path == "/v1/drain"
        return HTTPStatus.OK, json.dumps({"leaving": self.leaving, "ports": 1}).encode()


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Answering:
    answering = Answering()
    monkeypatch.setattr(query, "ask", answering.ask)
    monkeypatch.setattr(upkeep, "act", answering.act)
    return answering


@pytest.mark.parametrize("drained", [True, False])
def test_the_ports_of_a_drained_host_say_so(
    agent: Answering, drained: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.leaving = drained

    query.tell(Config(), "ports", as_json=False)

    assert ("this host is drained" in capsys.readouterr().out) == drained


def test_a_drain_says_what_it_changes_and_that_it_changes_nothing(
    agent: Answering, capsys: pytest.CaptureFixture[str]
) -> None:
    for undo in (False, False, True, True):
        upkeep.drain(Config(), undo=undo, as_json=False)

    assert agent.leaving is False
    assert capsys.readouterr().out.splitlines() == [
        "1 port is marked leaving: an active claim of another host comes first",
        "nothing changes: this host is drained already",
        "1 port is active again",
        "nothing changes: this host is not drained",
    ]


@pytest.mark.usefixtures("agent")
def test_who_asks_for_an_unknown_network_is_shown_where_the_known_ones_are() -> None:
    with pytest.raises(PortwatchError, match=r"only of networks that have a port here \(`portwatch networks`\)"):
        query.fdb(Config(), "nosuch", as_json=False)
