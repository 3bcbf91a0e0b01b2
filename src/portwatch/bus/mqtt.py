"""A real broker: MQTT 5 by aiomqtt; the only file that knows it, and paho beneath it.

aiomqtt makes the client and subscribes. Four things go past it to its paho client, each for a measured
reason: a refused publication is an error, not silence; a message goes to `receive` without a queue and a task
of its own; one wake-up handles all packets that have come, from asyncio's transport, without a thread; many
publications are under way at once, within a window. No manual acknowledgement: paho acknowledges when
`receive` has returned, and then all is done.

Neither library shows: weather is `BusUnavailable`, in words, with the URL.
"""

import asyncio
import logging
import math
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final, NoReturn, TypeVar

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from portwatch.bus import transport
from portwatch.bus.connection import Connection, End, Message, Publication
from portwatch.bus.transport import MqttSettings as MqttSettings
from portwatch.bus.window import Batch, Window
from portwatch.errors import BusUnavailable, PublishRefused, SubscribeRefused

T = TypeVar("T")
Refusal = TypeVar("Refusal", PublishRefused, SubscribeRefused)

WINDOW: Final = 500
"""Publications under way at once, if the broker allows as many: a busy hypervisor's ports."""
PORTION: Final = 25
"""Publications written to the wire at once: the others begin with these while the next are put into packets."""
RECEIVE_MAXIMUM: Final = 65535
"""Messages that the broker may send ahead of our acknowledgements: the most there is, for mosquitto in its
default configuration drops, in silence, what goes beyond: of 20,000 retained messages it delivers 13,000 this
way, and 1,020 by its own choice."""
GOODBYE_SECONDS: Final = 1.0
TICKS: Final = 4
"""How often within the shortest of our limits time is looked at: each look wakes a process that has nothing to do."""
OWED_TICK: Final = 1.0
"""Seconds between two looks while an acknowledgement is owed."""
AGAIN_SECONDS: Final = 3.0
"""After which a publication without an answer is sent once more."""

AT_LEAST_ONCE: Final = 1
PACKET_TOO_LARGE: Final = 0x95
HEADER: Final = 32
"""More than the fixed parts of a PUBLISH packet."""
WRONG_CREDENTIALS: Final = (0x86, 0x87, 0x8C)
"""Bad user name or password; not authorized; bad authentication method."""

_silent = logging.getLogger(f"{__name__}.libraries")
_silent.disabled = True  # what the libraries log is raised here anyway


def check_libraries() -> None:
    """Fail at once, by name, when a library has lost what is used here besides its documented interface."""
    if not hasattr(paho.Client, "_create_socket"):
        raise _unfit("paho's Client has no _create_socket")


def _unfit(what: str) -> ImportError:
    return ImportError(
        f"portwatch needs aiomqtt >=2.5.1,<3 and paho-mqtt >=2.1,<3; here are aiomqtt {version('aiomqtt')} "
        f"and paho-mqtt {version('paho-mqtt')}, and {what}"
    )


check_libraries()


class MqttBroker:
    """The broker at an MQTT URL."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def connect(
        self, *, client_id: str, will: Publication, receive: Callable[[Message], None]
    ) -> AsyncGenerator[Connection]:
        connection = _MqttConnection(self._settings, receive)
        try:
            await connection.open(client_id, will)
            yield connection
        except BaseException:
            await connection.abort()
            raise
        await connection.leave()


class _MqttConnection:
    def __init__(self, settings: MqttSettings, receive: Callable[[Message], None]) -> None:
        self.session_present = False
        self._settings = settings
        self._address = settings.address
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._wire = transport.Wire(self._read, self._wire_lost)
        self._mqtt: aiomqtt.Client
        self._paho: paho.Client
        self._answered = asyncio.Event()
        self._leaving = False
        self._end = End()
        self._window = Window(WINDOW, self._end)
        self._largest = math.inf
        self._limits: set[asyncio.Timeout] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._heard_at = self._loop.time()

    # --- from the first word to the last ---

    async def open(self, client_id: str, will: Publication) -> None:
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await self._open(client_id, will)
        except TimeoutError:
            raise self._unavailable(f"no answer within {self._settings.connect_timeout:g} s") from None
        except OSError as error:
            raise self._unavailable(transport.words(error)) from error
        except UnicodeDecodeError as error:
            raise self._unavailable(f"{self._settings.password_file} is not UTF-8") from error

    async def _open(self, client_id: str, will: Publication) -> None:
        # In threads: files may block, and the system's list of authorities takes 20 ms to read.
        password = await asyncio.to_thread(self._settings.password) if self._settings.password_file else None
        context = await asyncio.to_thread(self._settings.tls_context) if self._address.tls else None
        await transport.connect(self._address, self._wire, context)
        self._mqtt = aiomqtt.Client(
            str(self._address),
            protocol=aiomqtt.ProtocolVersion.V5,
            identifier=client_id,
            username=self._address.user,
            password=password,
            will=_will(will),
            max_inflight_messages=0,  # the window is ours
            logger=_silent,
        )
        self._paho = self._take_over(self._mqtt)
        self._paho.connect(
            str(self._address),
            keepalive=self._settings.keepalive,
            clean_start=True,
            properties=_properties(PacketTypes.CONNECT, SessionExpiryInterval=0, ReceiveMaximum=RECEIVE_MAXIMUM),
        )
        await self._answered.wait()
        self._end.check()
        self._tick()

    def _take_over(self, mqtt: aiomqtt.Client) -> paho.Client:
        """Put the paho client within on our wire, with our callbacks; those for subscriptions stay."""
        client = getattr(mqtt, "_client", None)
        if not isinstance(client, paho.Client):
            raise _unfit("aiomqtt's Client has no paho client as _client")
        client.disable_logger()
        client._create_socket = lambda: self._wire  # type: ignore[method-assign]  # noqa: SLF001
        client.on_socket_open = client.on_socket_close = client.on_socket_unregister_write = None
        client.on_socket_register_write = lambda *_: self._write_soon()
        client.on_connect = lambda _c, _u, flags, reason, properties: self._connected(flags, reason, properties)
        client.on_disconnect = lambda _c, _u, flags, reason, _p: self._disconnected(flags, reason)
        client.on_message = lambda _c, _u, message: self._received(message)
        client.on_publish = lambda _c, _u, number, reason, _p: self._acknowledged(number, reason)
        return client

    async def leave(self) -> None:
        """Say goodbye, and let the broker hang up: who hangs up first may tear up his own goodbye."""
        try:
            if not self._end.came:
                self._leaving = True
                self._paho.disconnect()
                self._write()
                with suppress(TimeoutError):
                    async with asyncio.timeout(GOODBYE_SECONDS):
                        await self._wire.gone.wait()
        finally:
            self._lose("this side has left")
        await self.abort()
        self._end.check_receive()

    async def abort(self) -> None:
        """Let go without a goodbye, so that the broker publishes the will; leave nothing behind."""
        self._lose("this side left by an exception")
        if self._wire.transport is not None:
            await self._wire.gone.wait()

    def _unavailable(self, why: str) -> BusUnavailable:
        return BusUnavailable(f"{self._address}: {why}")

    def _lose(self, why: str) -> None:
        self._finish(self._unavailable(why))

    def _finish(self, reason: Exception) -> None:
        """The end: wake everybody who waits for the broker."""
        if not self._end.come(reason):
            return
        if self._ticker is not None:
            self._ticker.cancel()
        self._wire.abort()
        self._answered.set()
        self._window.close()
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(self._loop.time())

    # --- what portwatch asks ---

    async def publish(self, *publications: Publication) -> None:
        self._end.check()
        batch = Batch(len(publications))
        for number, publication in enumerate(publications):
            if self._window.full or number % PORTION == 0:
                self._write()  # nobody waits for an answer to what is not on its way
            await self._window.take_place()
            self._send(publication, batch)
        self._write()  # now: the switch's work for the same news waits behind us, and others wait for this
        await batch.settled()
        if batch.unsettled:
            self._end.check()
        if batch.refused:
            raise _first(batch.refused)

    def _send(self, publication: Publication, batch: Batch) -> None:
        topic, payload, kind = publication.topic, publication.payload, publication.content_type
        # A broker hangs up on a packet that is too large; sent again after each connect, it would never end.
        if len(topic.encode()) + len(payload) + len(kind or "") + HEADER > self._largest:
            self._window.give_back()
            batch.settle(PublishRefused(topic, PACKET_TOO_LARGE, "Packet too large"))
            return
        sent = self._give(publication)
        if sent.rc != paho.MQTT_ERR_SUCCESS:
            self._window.give_back()
            self._lose(f"cannot send: {paho.error_string(sent.rc)}")
            self._end.check()
        self._window.sent(sent.mid, publication, batch, self._loop.time())

    def _give(self, publication: Publication) -> paho.MQTTMessageInfo:
        properties = _properties(
            PacketTypes.PUBLISH, ContentType=publication.content_type, MessageExpiryInterval=publication.expiry
        )
        return self._paho.publish(publication.topic, publication.payload, AT_LEAST_ONCE, publication.retain, properties)

    async def subscribe(self, *filters: str, own: bool = True) -> None:
        self._end.check()
        if not filters:
            return
        options = SubscribeOptions(qos=AT_LEAST_ONCE, noLocal=not own, retainAsPublished=False)
        codes = await self._ask(self._mqtt.subscribe([(each, options) for each in filters], timeout=math.inf))
        refused = [
            SubscribeRefused(topic_filter, code.value, str(code))
            for topic_filter, code in zip(filters, codes, strict=False)
            if isinstance(code, ReasonCode) and code.is_failure
        ]
        if refused:
            raise _first(refused)

    async def unsubscribe(self, *filters: str) -> None:
        self._end.check()
        if filters:
            await self._ask(self._mqtt.unsubscribe(list(filters), timeout=math.inf))

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Ask the broker, no longer than it may take and no longer than the connection lasts."""
        try:
            async with asyncio.timeout(self._settings.answer_timeout) as limit:
                self._limits.add(limit)
                try:
                    return await question
                finally:
                    self._limits.discard(limit)
        except (TimeoutError, aiomqtt.MqttError):
            self._lose(f"no answer within {self._settings.answer_timeout:g} s")
        self._end.check()
        raise AssertionError("a lost connection has an end")

    async def closed(self) -> NoReturn:
        await self._end.wait()

    # --- what the broker says ---

    def _connected(self, flags: paho.ConnectFlags, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            check = "; check username and password_file" if reason.value in WRONG_CREDENTIALS else ""
            self._lose(f"the broker refused the connection: {reason} ({reason.value:#04x}){check}")
            return
        if getattr(properties, "RetainAvailable", 1) == 0 or getattr(properties, "MaximumQoS", 1) == 0:
            self._lose("this broker offers no retained messages or no QoS 1; portwatch needs both")
            return
        self.session_present = flags.session_present
        self._window = Window(min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW)), self._end)
        self._largest = getattr(properties, "MaximumPacketSize", math.inf)
        self._answered.set()

    def _disconnected(self, flags: paho.DisconnectFlags, reason: ReasonCode) -> None:
        if not self._leaving:
            who = "the broker hung up" if flags.is_disconnect_packet_from_server else "the connection was lost"
            self._lose(f"{who}: {reason} ({reason.value:#04x})")

    def _received(self, message: paho.MQTTMessage) -> None:
        if self._leaving or self._end.came:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError as error:
            topic = error.object.decode(errors="replace")  # the reader refuses it and goes on
        content_type = getattr(message.properties, "ContentType", None)
        try:
            self._receive(Message(topic, bytes(message.payload), bool(message.retain), content_type))
        except Exception as error:  # noqa: BLE001  # whatever it is, `closed` raises it
            self._finish(error)

    def _acknowledged(self, number: int, reason: ReasonCode) -> None:
        now = self._loop.time()
        if reason.is_failure:  # 0x10, "no matching subscribers", is none
            self._window.settle(number, now, reason.value, str(reason))
        else:
            self._window.settle(number, now)

    # --- what the loop says ---

    def _read(self) -> None:
        self._heard_at = self._loop.time()
        while self._wire.unread and not self._leaving and not self._end.came:
            self._step(self._paho.loop_read)

    def _write_soon(self) -> None:
        """Acknowledge, but in the turn after the next: who hears what has come gets to work first."""
        self._loop.call_soon(self._loop.call_soon, self._write)

    def _write(self) -> None:
        if not self._end.came:
            self._step(self._paho.loop_write)
            self._wire.flush()

    def _tick(self) -> None:
        """Time has passed: paho's keepalive, and a limit to a broker that lives and does not acknowledge."""
        self._step(self._paho.loop_misc)
        self._step(self._send_again)
        if self._window.silence(self._loop.time()) > self._settings.answer_timeout:
            self._lose(f"no acknowledgement within {self._settings.answer_timeout:g} s")
        if not self._end.came:
            limits = (self._settings.answer_timeout, self._paho.keepalive)  # the broker may have shortened that
            pause = min(filter(None, limits)) / TICKS
            self._ticker = self._loop.call_later(min(pause, OWED_TICK) if self._window.owed else pause, self._tick)

    def _send_again(self) -> None:
        """Send once more what has waited for long at a broker from which something else has come since.

        mosquitto drops acknowledgements, too, while it has more to send to us than its limits allow. Nobody waits for
        an answer and says something newer on the same topic meanwhile.
        """
        now = self._loop.time()
        for number in self._window.overdue(min(now - AGAIN_SECONDS, self._heard_at)):
            sent = self._give(self._window.publication(number))
            if sent.rc == paho.MQTT_ERR_SUCCESS:
                self._window.sent_again(number, sent.mid, now)

    def _step(self, step: Callable[[], object]) -> None:
        """Let paho work. What it trips over ends this connection, and nothing else."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  # it reads what a broker sends: weather, whatever its type
            self._lose(f"the MQTT library failed: {error!r}")

    def _wire_lost(self, error: Exception | None) -> None:
        why = transport.words(error) if isinstance(error, OSError) else "the broker closed the connection"
        told = isinstance(error, ssl.SSLError)
        self._lose(why if told or self._answered.is_set() else f"{why}{self._settings.doubt(datetime.now(UTC))}")


def _will(publication: Publication) -> aiomqtt.Will:
    properties = _properties(
        PacketTypes.WILLMESSAGE,
        ContentType=publication.content_type,
        MessageExpiryInterval=publication.expiry,
    )
    return aiomqtt.Will(publication.topic, publication.payload, AT_LEAST_ONCE, publication.retain, properties)


@lru_cache(maxsize=64)
def _properties(packet: int, **values: str | int | None) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        if value is not None:
            setattr(properties, name, value)
    return properties


def _first(refused: list[Refusal]) -> Refusal:
    refused[0].others = tuple(other.topic for other in refused[1:])
    return refused[0]
