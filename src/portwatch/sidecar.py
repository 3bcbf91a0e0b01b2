"""The composition root: builds the parts, runs them as named tasks of one group, and ends with a signal.

A task that returns or fails ends the process; whoever supervises it starts it again, and the start is a resync.
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import structlog

from portwatch import __version__, certificate, memory, views, wire
from portwatch.agent import Agent
from portwatch.config import Config, Details, Loaded
from portwatch.errors import OvsdbError
from portwatch.fabric.announcer import Identity
from portwatch.http import page
from portwatch.http.messages import Event, EventStream, Response, failure, json_response
from portwatch.http.server import Handler, Server
from portwatch.metrics import Metrics
from portwatch.model import HostName, NetworkType
from portwatch.ovsdb import bridges
from portwatch.ovsdb.database import Database
from portwatch.ovsdb.picture import TUNNEL_PORTS, Picture
from portwatch.ovsdb.rows import TABLES
from portwatch.ovsdb.watcher import watch
from portwatch.partners import access_of, broker_of, own_name, tls_of
from portwatch.switch.ofctl import OfCtl

GOODBYE_SECONDS = 1.5
"""How long the last words to the bus may take."""
BRIDGES_RETRY = 1.0
"""Seconds between attempts to make the bridges while OVSDB or vswitchd is not there."""

log = structlog.get_logger()


class Sidecar:
    """One `portwatch run`."""

    def __init__(self, loaded: Loaded) -> None:
        self.config: Config = loaded.config
        names = (self.config.bridges.integration, self.config.bridges.tunnel)
        self.metrics = Metrics(__version__, bridges=names, reasons=wire.REASONS)
        self.picture = Picture(*names, directory=self.config.ports.details is Details.DIRECTORY)
        self.agent: Agent | None = None
        self._bridges_trouble: str | None = "not made yet"
        self._look_at_bridges = asyncio.Event()
        self._looked_for: frozenset[NetworkType] = frozenset()
        self._stop = asyncio.Event()
        self._connections: dict[str, int] = {}

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        config = self.config
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        memory.tame()
        log.info("portwatch starts", version=__version__, ovsdb=str(config.ovsdb.remote), bus=str(config.bus.url))
        async with AsyncExitStack() as stack:
            if config.http.listen is not None:
                server = Server(config.http.listen, self._routes(), actions=self._actions(), access=access_of(config))
                await stack.enter_async_context(server)
            self._database = await stack.enter_async_context(
                Database(str(config.ovsdb.remote), TABLES, tls=tls_of(config))
            )
            self._ofctl = await stack.enter_async_context(OfCtl(config.openflow.rundir))
            await self._until_stopped(self._work())
        log.info("portwatch stops")

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._start("ovsdb link", self._count_connections())
            self._start("ovsdb", self._watch())
            self._start("bridges", self._keep_bridges())
            self._start("garbage", memory.collect())

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* until it fails or the signal comes; then say goodbye to the bus, within its time."""
        running = asyncio.create_task(work, name="work")
        stopping = asyncio.create_task(self._stop.wait(), name="signals")
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and self.agent is not None and self.agent.exchange.link.trouble is None:
                self.agent.exchange.link.stop()
                await asyncio.wait({self._bus_task}, timeout=GOODBYE_SECONDS)
        finally:
            stopping.cancel()
            running.cancel()
            await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error

    def _start(self, name: str, work: Awaitable[None]) -> asyncio.Task[None]:
        return self._tasks.create_task(self._forever(name, work), name=name)

    async def _forever(self, name: str, work: Awaitable[None]) -> None:
        """Guard an eternal task: that it returns is a fault, unless we are stopping."""
        await work
        if not self._stop.is_set():
            raise RuntimeError(f"the task {name!r} has ended by itself")

    # --- tasks ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Follow OVSDB; the first picture makes the agent."""
        async for change in watch(self._database, self.picture, time.monotonic):
            if self.agent is None:
                self.agent = self._make_agent()
            await self.agent.plugged(change)
            if change.switch:
                self._look_at_bridges.set()
                for programmer in self.agent.programmers.values():
                    programmer.hurry()

    def _make_agent(self) -> Agent:
        config = self.config
        host = own_name(config, self.picture.hostname)
        identity = Identity(host, uuid4().hex, config.tunnel.local_ip)
        log.info(
            "this host",
            host=host,
            session=identity.session,
            tunnel_ip=str(identity.endpoint) if identity.endpoint else None,
        )
        self._check_name(host)
        agent = Agent(
            config,
            identity,
            self.picture,
            self._database,
            self._ofctl,
            broker_of(config),
            self.metrics,
            planned=self._look_for_tunnels,
        )
        self._bus_task = self._start("bus", agent.exchange.link.run())
        self._start("inbox", agent.exchange.hearing.read())
        self._start("manifests", agent.exchange.publish_manifests())
        self._start("records", agent.records.run())
        self._start("time", agent.keep_time())
        for bridge in agent.programmers:
            self._start(f"{bridge} bridge", agent.program(bridge))
        return agent

    def _check_name(self, host: HostName) -> None:
        """Say so when our certificate is another's: a broker that goes by it refuses all that this host says."""
        path = self.config.bus.certificate
        try:
            name = certificate.read(path).common_name if path else host
        except (OSError, ValueError) as error:
            log.warning(
                "the certificate for the bus cannot be read",
                error=str(error),
                do="put a certificate (PEM) where bus.certificate says, readable for the agent; it is read anew",
            )
            return
        if name != host:
            log.warning(
                "the certificate for the bus is of another name",
                file=str(path),
                name=name,
                host=host,
                do="issue one whose common name is this host's name on the bus, or set host to the certificate's name",
            )

    async def _keep_bridges(self) -> None:
        """Make what is missing of bridges, patch ports and tunnel ports: at the start, and whenever some of it goes.

        A tunnel port of another type than the configured one is made when the first port of such a network comes.
        """
        config = self.config
        wanted = bridges.Bridges(
            integration=config.bridges.integration,
            tunnel=config.bridges.tunnel,
            datapath_type=config.bridges.datapath_type,
            local_ip=config.tunnel.local_ip,
            type=config.tunnel.type,
            port=config.tunnel.port,
            ask_datapath=config.ports.nd_responder is None,
        )
        while True:
            self._look_at_bridges.clear()
            if self._database.connected and self._bridges_missing():
                try:
                    types = self._looked_for = frozenset(self._tunnel_types)
                    await bridges.ensure(str(config.ovsdb.remote), replace(wanted, types=types), tls=tls_of(config))
                    self._bridges_trouble = None
                except OvsdbError as error:
                    self._note_bridges(str(error))
            # Not wait_for: up to Python 3.11 it loses a cancellation that comes together with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(BRIDGES_RETRY if self._bridges_trouble else None):
                    await self._look_at_bridges.wait()

    def _look_for_tunnels(self) -> None:
        if self._tunnel_types - self._looked_for:
            self._look_at_bridges.set()

    def _bridges_missing(self) -> bool:
        ports = self.picture.switch_ports
        patched = ports.patch_to_tunnel is not None and ports.patch_to_integration is not None
        return self._bridges_trouble is not None or not patched or bool(self._tunnels_missing)

    @property
    def _tunnels_missing(self) -> list[str]:
        ports = self.picture.switch_ports
        return sorted(TUNNEL_PORTS[kind] for kind in self._tunnel_types if ports.tunnel(kind) is None)

    @property
    def _tunnels_trouble(self) -> str | None:
        missing = self._tunnels_missing
        return f"bridge {self.config.bridges.tunnel} has no {' and no '.join(missing)} yet" if missing else None

    @property
    def _tunnel_types(self) -> set[NetworkType]:
        """The types of tunnels that this host needs: the configured one, and those of the networks here."""
        if self.config.tunnel.local_ip is None:
            return set()
        return {self.config.tunnel.type, *(self.agent.reactor.fabric.tunnel_types if self.agent else ())}

    def _note_bridges(self, trouble: str) -> None:
        if trouble != self._bridges_trouble:
            log.warning("bridges not made yet", error=trouble, do="see that ovs-vswitchd runs; it is tried again")
        self._bridges_trouble = trouble

    async def _count_connections(self) -> None:
        link = self._database.link
        while True:
            link = await self._database.link_after(link)
            if link.connected and link.connections > 1:
                self.metrics.reconnects.labels("ovsdb").inc()
            self._look_at_bridges.set()

    # --- HTTP ----------------------------------------------------------------------------------------------------

    def _routes(self) -> dict[str, Handler]:
        return {
            **page.routes(),
            "/metrics": lambda request: self._show_metrics(),
            "/healthz": lambda request: Response(body=b"ok\n"),
            "/readyz": lambda request: self._show_ready(),
            "/v1/host": lambda request: self._show(views.host),
            "/v1/convergence": lambda request: self._show(views.convergence),
            "/v1/ports": lambda request: self._show(views.ports),
            "/v1/networks": lambda request: self._show(views.networks),
            "/v1/peers": lambda request: self._show(views.peers),
            "/v1/fdb": lambda request: self._show(lambda agent: views.fdb(agent, request.query.get("network"))),
            "/v1/flows": lambda request: self._show(views.flows),
            "/v1/audit": lambda request: self._show(views.audit),
            "/v1/explain/*": lambda request: self._show(lambda agent: views.explain(agent, request.segments[-1])),
            "/v1/events": lambda request: self._show_events(),
        }

    def _actions(self) -> dict[str, Handler]:
        return {"/v1/drain": lambda request: self._drain(leaving="undo" not in request.query)}

    def _drain(self, *, leaving: bool) -> Response:
        if self.agent is None:
            return failure(503, f"not ready: ovsdb: {self.troubles['ovsdb']}")
        return json_response({"leaving": leaving, "ports": self.agent.drain(leaving=leaving)})

    @property
    def troubles(self) -> dict[str, str]:
        """Why this agent is not ready, by component; empty when it is."""
        if self.agent is None:
            error = self._database.last_error or "the first picture is being read"
            waits = "waits for OVSDB"
            return {"ovsdb": error, "switch": waits, "bus": waits}
        troubles = self.agent.troubles
        if (trouble := self._bridges_trouble or self._tunnels_trouble) is not None:
            troubles.setdefault("switch", trouble)
        return troubles

    def _show(self, view: Any) -> Response:
        if self.agent is None:
            return failure(503, f"not ready: ovsdb: {self.troubles['ovsdb']}")
        return json_response(view(self.agent))

    def _show_ready(self) -> Response:
        troubles = self.troubles
        return json_response({"ready": not troubles, "reasons": troubles}, 503 if troubles else 200)

    def _show_metrics(self) -> Response:
        if self.agent is not None:
            views.metrics(self.agent)
        self._show_expiry()
        return Response(body=self.metrics.render(), content_type=self.metrics.content_type)

    def _show_expiry(self) -> None:
        config = self.config
        files = {"bus": config.bus.certificate, "ovsdb": config.ovsdb.certificate, "http": config.http.certificate}
        for component, path in files.items():
            if path is not None:
                try:
                    expiry = certificate.read(path).not_after.timestamp()
                except (OSError, ValueError):
                    expiry = 0  # which is an alarm
                self.metrics.certificate_expiry.labels(component).set(expiry)

    def _show_events(self) -> EventStream | Response:
        if self.agent is None:
            return failure(503, f"not ready: ovsdb: {self.troubles['ovsdb']}")
        return EventStream(_server_sent(self.agent))


async def _server_sent(agent: Agent) -> AsyncIterator[Event]:
    async for payload in agent.exchange.followers.follow():
        event = json.loads(payload)
        yield Event(data=payload.decode(), type=event["type"], id=event["id"].rpartition("/")[2])
