"""What a short visit shows of the broker: may we speak and hear, does it tell all it holds, who else is of our name."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from portwatch import wire
from portwatch.bus.connection import Broker, Publication
from portwatch.doctor.facts import Bus
from portwatch.doctor.surroundings import FAR_OFF
from portwatch.errors import BusError, PublishRefused, Refused, SubscribeRefused
from portwatch.events import LEAVING, ONLINE, HostStatus, Manifest, PortEvent
from portwatch.model import HostName, NetworkId, PortId, TunnelEndpoint
from portwatch.visit import Visit, visit

NOBODYS = "portwatch-doctor"
"""A port, and a network, that nobody has: what is said of it changes nothing."""
AGAIN_SECONDS = 1.0
"""After which what is missing is looked for once more: a port may have come or gone meanwhile."""

Share = tuple[NetworkId | None, HostName]


async def look(
    broker: Broker,
    prefix: str,
    host: HostName,
    networks: Sequence[NetworkId],
    *,
    agent_runs: bool,
    endpoint: TunnelEndpoint | None,
) -> Bus:
    """Visit the broker as *host*; *networks* are those that have a port here."""
    forbidden: list[str] = []
    visitor: Visit | None = None
    try:
        async with visit(broker, prefix, host) as visitor:
            forbidden += await _refusals(visitor, host, agent_runs=agent_runs)
            topics = visitor.topics
            ports, manifests = zip(*map(topics.of_network, networks), strict=True) if networks else ((), ())
            with _noting(forbidden):  # what shall be there first: a broker whose queue is full drops what comes last
                await visitor.read(topics.host(host), *manifests)
                await visitor.read(*ports)
            stated, told = _shares(visitor)
            if any(told[share] < number for share, number in stated.items()):
                await asyncio.sleep(AGAIN_SECONDS)
                with _noting(forbidden):
                    await visitor.read(*ports, *manifests)
                stated, told = _shares(visitor)
            namesake = None if agent_runs else await _namesake(visitor, host)
            doubles = [] if agent_runs or endpoint is None else await _doubles(visitor, host, endpoint)
            return Bus(
                forbidden=tuple(forbidden),
                stated=stated.total(),
                told=sum(min(told[share], number) for share, number in stated.items()),
                namesake=namesake,
                doubles=tuple(doubles),
                ahead=_ahead(visitor),
            )
    except BusError as error:
        if visitor is not None and (told_before := len(visitor.retained)):
            return Bus(forbidden=tuple(forbidden), choked=told_before)
        return Bus(trouble=str(error), forbidden=tuple(forbidden))


async def _refusals(visitor: Visit, host: HostName, *, agent_runs: bool) -> list[str]:
    """Say what this host has to say, of a port that nobody has, and hear whether it comes back."""
    port = visitor.topics.port(None, host, PortId(NOBODYS))
    words = [Publication(visitor.topics.manifest(NetworkId(NOBODYS), host), b"")]
    if not agent_runs:  # its own word is what stands there, and it has told us already if that was refused
        mine = visitor.topics.host(host)
        said = (await visitor.read(mine)).get(mine, b"")
        words.append(Publication(mine, said, retain=True, content_type=wire.JSON_CONTENT_TYPE if said else None))
    found: list[str] = []
    for publication in words:
        with _noting(found):
            await visitor.publish(publication)
    with _noting(found):
        if not await visitor.echoes(port):
            found.append(f"what is said on {port} does not come back: reading is refused in silence")
    return found


@contextlib.contextmanager
def _noting(refusals: list[str]) -> Iterator[None]:
    try:
        yield
    except (PublishRefused, SubscribeRefused) as error:
        refusals.append(str(error))


def _shares(visitor: Visit) -> tuple[Counter[Share], Counter[Share]]:
    """Return how many ports each host's manifest states in each network, and how many the broker told."""
    stated: Counter[Share] = Counter()
    told: Counter[Share] = Counter()
    for news in _news(visitor):
        if isinstance(news, Manifest):
            stated[news.network_id, news.host] = news.count
        elif isinstance(news, PortEvent):
            told[news.key[:2]] += 1
    return stated, told


async def _namesake(visitor: Visit, host: HostName) -> str | None:
    """Return where another agent of our name tunnels, if one lives."""
    if not await visitor.lives(host):
        return None
    status = visitor.status(visitor.retained, host)
    return f"it tunnels from {status.tunnel_ip}" if status else "it says nothing of itself"


async def _doubles(visitor: Visit, host: HostName, endpoint: TunnelEndpoint) -> list[str]:
    """Return the other living hosts that have our tunnel address."""
    await visitor.read(visitor.topics.host(HostName(host)).removesuffix(host) + "+")
    hosts = [news for news in _news(visitor) if isinstance(news, HostStatus)]
    same = [each for each in hosts if each.tunnel_ip == endpoint and each.host != host]
    return [each.host for each in same if each.state in (ONLINE, LEAVING) and await visitor.lives(each.host)]


def _ahead(visitor: Visit) -> dict[str, float]:
    now = datetime.now(UTC)
    times = [(news.claim.host, news.time) for news in _news(visitor) if isinstance(news, PortEvent) and news.time]
    times += [
        (news.host, news.started_at) for news in _news(visitor) if isinstance(news, HostStatus) and news.started_at
    ]
    found: dict[str, float] = {}
    for host, time in times:
        if (seconds := (time - now).total_seconds()) > FAR_OFF:
            found[host] = max(seconds, found.get(host, 0.0))
    return found


def _news(visitor: Visit) -> list[wire.News]:
    found = []
    for topic, payload in visitor.retained.items():
        with contextlib.suppress(Refused):  # the agent counts and logs these
            found.append(visitor.topics.decode(topic, payload))
    return found
