"""What only a real broker can do: refuse, be far away behind a password and TLS, hang, die, come back."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt import client as paho

from portwatch.bus import mqtt, transport
from portwatch.bus.connection import Publication
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.errors import BusUnavailable, PublishRefused, SubscribeRefused
from tests.adapters.inbox import BOTH_LOOPS, MARK, PATIENCE, a_client
from tests.adapters.inbox import nothing_goes_wrong_in_silence as nothing_goes_wrong_in_silence
from tests.adapters.mosquitto import Mosquitto, a_free_port, a_mosquitto

pytestmark = [BOTH_LOOPS, pytest.mark.adapters, pytest.mark.timeout(30)]

AUTHORITY = Path(__file__).parents[2] / "deploy" / "authority"
PLUGINS = sorted(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with a_mosquitto(tmp_path) as running:
        yield running


async def connect_once(settings: MqttSettings) -> None:
    """Connect, hear oneself, leave."""
    will = Publication("hosts/hv1", b"offline")
    async with a_client(MqttBroker(settings), will=will) as (connection, inbox):
        await connection.subscribe("mark")
        await connection.publish(MARK)
        await inbox.next()


async def test_own_words_come_only_by_the_subscriptions_that_ask_for_them(mosquitto: Mosquitto) -> None:
    broker = MqttBroker(MqttSettings(mosquitto.url))
    async with a_client(broker) as (connection, inbox), a_client(broker, "other") as (other, _):
        await connection.subscribe("ports/blue/+", own=False)
        await connection.subscribe("ports/+/hv1", "mark")

        await connection.publish(Publication("ports/blue/hv1", b"once", retain=True), MARK)
        assert [message.payload for message in await inbox.take(2)] == [b"once", b"here"]
        await other.publish(Publication("ports/blue/hv1", b"forged", retain=True))
        assert [message.payload for message in await inbox.take(2)] == [b"forged", b"forged"], "by both"


@pytest.mark.parametrize("window", [mqtt.WINDOW, 3], ids=["wide", "narrow"])
async def test_the_first_of_many_words_are_on_their_way_before_the_last_are_put_into_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    put, under_way, waiting = 0, 0, [0]
    publish, flush = paho.Client.publish, transport.Wire.flush

    def putting(*arguments: object) -> object:
        nonlocal put
        put += 1
        waiting.append(put - under_way)
        return publish(*arguments)  # type: ignore[arg-type]

    def flushing(wire: transport.Wire) -> None:
        nonlocal under_way
        flush(wire)
        under_way = put

    monkeypatch.setattr(mqtt, "WINDOW", window)
    with a_mosquitto(tmp_path, "max_inflight_messages 0") as mosquitto:
        async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, _):
            monkeypatch.setattr(paho.Client, "publish", putting)
            monkeypatch.setattr(transport.Wire, "flush", flushing)
            await connection.publish(*(Publication(f"ports/blue/hv1/p{number}", b"1") for number in range(100)))

    assert (put, max(waiting)) == (100, min(mqtt.PORTION, window))


# --- what the broker refuses --------------------------------------------------------------------------------


async def test_refused_publication_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite open/#\n")
    with a_mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}") as mosquitto:
        async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, inbox):
            await connection.subscribe("open/#")

            with pytest.raises(PublishRefused) as refused:
                await connection.publish(
                    *(Publication(topic, b"1") for topic in ("open/1", "shut/1", "open/2", "shut/2"))
                )

            assert (refused.value.topic, refused.value.code, refused.value.words) == (
                "shut/1",
                0x87,
                "Not authorized",
            )
            assert refused.value.topics == ("shut/1", "shut/2")
            assert [message.topic for message in await inbox.take(2)] == ["open/1", "open/2"]


async def test_publication_that_nobody_reads_is_no_failure(mosquitto: Mosquitto) -> None:
    async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, _):
        await connection.publish(Publication("a", b"1"))  # mosquitto: reason code 0x10


async def test_refused_subscription_is_named_and_the_others_stand(tmp_path: Path) -> None:
    if not PLUGINS:
        pytest.skip("mosquitto came without its dynamic security, which alone refuses a subscription")
    (tmp_path / "dynsec.json").write_text(
        """{"defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true,
                                 "subscribe": false, "unsubscribe": true},
            "roles": [{"rolename": "r", "acls": [{"acltype": "subscribePattern", "topic": "open/#",
                                                  "priority": 1, "allow": true}]}],
            "groups": [{"groupname": "g", "roles": [{"rolename": "r"}]}],
            "anonymousGroup": "g", "clients": []}"""
    )
    lines = (f"plugin {PLUGINS[0]}", f"plugin_opt_config_file {tmp_path / 'dynsec.json'}")
    with a_mosquitto(tmp_path, *lines) as mosquitto:
        async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, inbox):
            with pytest.raises(SubscribeRefused) as refused:
                await connection.subscribe("open/1", "shut/1", "open/2")

            assert (refused.value.topic, refused.value.code) == ("shut/1", 0x87)
            await connection.publish(Publication("open/2", b"1"))
            assert (await inbox.next()).topic == "open/2"


async def test_publication_larger_than_the_broker_takes_is_refused_and_the_connection_lives(
    tmp_path: Path,
) -> None:
    with a_mosquitto(tmp_path, "max_packet_size 2000") as mosquitto:
        async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, inbox):
            await connection.subscribe("#")

            with pytest.raises(PublishRefused, match="Packet too large"):
                await connection.publish(Publication("a", bytes(3000)), MARK)

            assert (await inbox.next()).topic == "mark"


async def test_what_a_crowded_broker_does_not_acknowledge_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its default limits mosquitto drops acknowledgements, too, while it replays more than 1,000 messages."""
    monkeypatch.setattr(mqtt, "AGAIN_SECONDS", 0.5)
    with a_mosquitto(tmp_path, "max_queued_messages 1000") as mosquitto:
        broker = MqttBroker(MqttSettings(mosquitto.url))
        async with a_client(broker, "writer") as (connection, _):
            await connection.publish(*(Publication(f"many/{number}", bytes(600), True) for number in range(4000)))
        async with a_client(broker) as (connection, inbox):
            started = time.monotonic()

            await asyncio.gather(connection.subscribe("many/+", "mark"), connection.publish(MARK))

            assert "are being dropped" in mosquitto.log
            assert 0.5 < time.monotonic() - started < 5
            while (await inbox.next()).topic != "mark":
                pass


async def test_broker_without_retained_messages_is_of_no_use(tmp_path: Path) -> None:
    with (
        a_mosquitto(tmp_path, "retain_available false") as mosquitto,
        pytest.raises(BusUnavailable, match="no retained messages"),
    ):
        await connect_once(MqttSettings(mosquitto.url))


# --- how to reach it ----------------------------------------------------------------------------------------


async def test_broker_is_reached_by_tcp_without_delay(tmp_path: Path) -> None:
    with a_mosquitto(tmp_path, port=a_free_port()) as mosquitto:
        before = set(open_sockets())
        async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, inbox):
            await connection.subscribe("mark")
            await connection.publish(MARK)
            await inbox.next()

            (number,) = set(open_sockets()) - before
            with socket.socket(fileno=os.dup(number)) as ours:
                assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("port", [None, 1], ids=["unix", "tcp"])
async def test_absent_broker_is_unavailable_and_named(tmp_path: Path, port: int | None) -> None:
    url = f"mqtt://127.0.0.1:{a_free_port()}" if port else f"mqtt+unix://{tmp_path}/none.sock"

    with pytest.raises(BusUnavailable) as raised:
        await connect_once(MqttSettings(url))

    assert str(raised.value) == f"{url}: {'Connection refused' if port else 'No such file or directory'}"


async def test_unknown_host_is_unavailable_and_named() -> None:
    with pytest.raises(BusUnavailable, match=r"^mqtt://broker\.invalid:1883: .*(known|resolution)"):
        await connect_once(MqttSettings("mqtt://broker.invalid", connect_timeout=20))


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """A file of passwords for mosquitto, with one for hv1."""
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "passwords", "hv1", "right"], check=True)
    return tmp_path / "passwords"


async def test_password_opens_and_a_wrong_one_does_not(tmp_path: Path, passwords: Path) -> None:
    (tmp_path / "right").write_text("right\n")
    (tmp_path / "wrong").write_text("geheim\n")
    lines = ("allow_anonymous false", f"password_file {passwords}")
    with a_mosquitto(tmp_path, *lines, port=a_free_port()) as mosquitto:
        with_user = mosquitto.url.replace("//", "//hv1@")

        await connect_once(MqttSettings(mosquitto.url, "hv1", tmp_path / "right"))
        await connect_once(MqttSettings(with_user, password_file=tmp_path / "right"))
        with pytest.raises(BusUnavailable) as wrong:
            await connect_once(MqttSettings(with_user, password_file=tmp_path / "wrong"))
        with pytest.raises(BusUnavailable, match="Not authorized"):
            await connect_once(MqttSettings(mosquitto.url))
        with pytest.raises(BusUnavailable, match=f"cannot read {tmp_path}/none: No such file"):
            await connect_once(MqttSettings(with_user, password_file=tmp_path / "none"))

    assert str(wrong.value) == (
        f"{mosquitto.url}: the broker refused the connection: Not authorized (0x87); check username and password_file"
    )


async def test_password_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe")

    with pytest.raises(BusUnavailable, match="password is not UTF-8"):
        await connect_once(MqttSettings("mqtt://hv1@127.0.0.1", password_file=tmp_path / "password"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"url": "http://broker"}, "expected mqtt://"),
        ({"url": "mqtt://"}, "expected mqtt://"),
        ({"url": "mqtt://broker:0"}, "expected mqtt://"),
        ({"url": "mqtt://broker:99999"}, "expected mqtt://"),
        ({"url": "mqtt://broker/path"}, "expected mqtt://"),
        ({"url": "mqtt+unix://relative/path"}, "expected mqtt://"),
        ({"url": "mqtt+unix:///a?b"}, "without"),
        ({"url": "mqtt://hv1:geheim@broker"}, "use password_file"),
        ({"url": "mqtt://broker", "ca_cert": Path("ca")}, "mqtts:// only"),
        ({"url": "mqtts://broker", "private_key": Path("key")}, "needs the certificate"),
        ({"url": "mqtts://broker", "password_file": Path("password")}, "needs a username"),
    ],
)
async def test_settings_that_cannot_work_say_why(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as raised:
        MqttSettings(**settings)  # type: ignore[arg-type]

    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://broker", "mqtt://broker:1883"),
        ("mqtts://hv1@broker", "mqtts://broker:8883"),
        ("mqtt://[fd00::1]:1884/", "mqtt://[fd00::1]:1884"),
        ("mqtt+unix:///run/mqtt%20broker.sock", "mqtt+unix:///run/mqtt%20broker.sock"),
    ],
)
async def test_address_is_shown_whole_and_without_a_user(url: str, shown: str) -> None:
    assert str(MqttSettings(url).address) == shown


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and certificates by it for the server 127.0.0.1 and for a client."""
    folder = tmp_path_factory.mktemp("authority")
    as_ca = ("-addext", "keyUsage=critical,keyCertSign")
    new_key = (
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-x509",
        "-days",
        "2",
    )

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(*new_key, *as_ca, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new_key, *as_ca, "-subj", "/CN=else", "-keyout", "else.key", "-out", "else.pem")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "subjectAltName=DNS:hv1")):
        openssl(
            *new_key, "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", f"/CN={name}", "-addext", extension,
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    return folder


@pytest.fixture
def tls_lines(authority: Path) -> tuple[str, ...]:
    return tuple(
        f"{key} {authority / name}"
        for key, name in (("cafile", "ca.pem"), ("certfile", "server.pem"), ("keyfile", "server.key"))
    )


async def test_broker_is_reached_by_tls_when_its_certificate_is_trusted(
    tmp_path: Path, authority: Path, tls_lines: tuple[str, ...]
) -> None:
    with a_mosquitto(tmp_path, *tls_lines, port=a_free_port()) as mosquitto:
        url = mosquitto.url.replace("mqtt:", "mqtts:")

        await connect_once(MqttSettings(url, ca_cert=authority / "ca.pem"))
        with pytest.raises(BusUnavailable, match=f"^{url}: the broker's certificate is not trusted: "):
            await connect_once(MqttSettings(url, ca_cert=authority / "else.pem"))
        with pytest.raises(BusUnavailable, match=r"[Hh]ostname mismatch"):
            await connect_once(MqttSettings(url.replace("127.0.0.1", "localhost"), ca_cert=authority / "ca.pem"))
        with pytest.raises(BusUnavailable, match=f"cannot read {authority}/none.pem"):
            await connect_once(MqttSettings(url, ca_cert=authority / "none.pem"))
        with pytest.raises(BusUnavailable, match=r"closed the connection|reset"):
            await connect_once(MqttSettings(mosquitto.url))


@pytest.fixture
def expired(tmp_path: Path) -> Path:
    """A folder with the broker's certificate as deploy/authority makes it, but of last year."""
    dates = {"STARTS": "20240101000000Z", "ENDS": "20250101000000Z"}
    for words in (("init",), ("broker", "localhost", "127.0.0.1")):
        subprocess.run([AUTHORITY, tmp_path / "pki", *words], check=True, env=os.environ | dates)
    return tmp_path / "pki"


async def test_a_broker_whose_certificate_has_expired_is_refused_in_words(tmp_path: Path, expired: Path) -> None:
    lines = tuple(f"{key} {expired}/broker.{end}" for key, end in (("certfile", "pem"), ("keyfile", "key")))
    with a_mosquitto(tmp_path, *lines, port=a_free_port()) as mosquitto:
        url = mosquitto.url.replace("mqtt:", "mqtts:")

        with pytest.raises(BusUnavailable, match=f"^{url}: the broker's certificate is not trusted: .*has expired"):
            await connect_once(MqttSettings(url, ca_cert=expired / "hosts-ca.pem"))


async def test_large_traffic_over_tls_arrives_whole(
    tmp_path: Path, authority: Path, tls_lines: tuple[str, ...]
) -> None:
    payloads = [bytes([number]) * 100_000 for number in range(50)]
    with a_mosquitto(tmp_path, *tls_lines, port=a_free_port()) as mosquitto:
        url = mosquitto.url.replace("mqtt:", "mqtts:")
        settings = MqttSettings(url, ca_cert=authority / "ca.pem")
        async with a_client(MqttBroker(settings)) as (connection, inbox):
            await connection.subscribe("a")

            await connection.publish(*(Publication("a", payload) for payload in payloads))

            assert [message.payload for message in await inbox.take(50)] == payloads


async def test_client_certificate_opens_where_one_is_asked_for(
    tmp_path: Path, authority: Path, tls_lines: tuple[str, ...]
) -> None:
    with a_mosquitto(tmp_path, *tls_lines, "require_certificate true", port=a_free_port()) as mosquitto:
        url, ca = mosquitto.url.replace("mqtt:", "mqtts:"), authority / "ca.pem"

        await connect_once(
            MqttSettings(url, ca_cert=ca, certificate=authority / "client.pem", private_key=authority / "client.key")
        )
        # In TLS 1.3 its hanging up may overtake its words.
        with pytest.raises(BusUnavailable, match=r"(the broker wants|it may want) a certificate of us"):
            await connect_once(MqttSettings(url, ca_cert=ca))
        with pytest.raises(BusUnavailable, match="TLS failed"):
            await connect_once(
                MqttSettings(
                    url,
                    ca_cert=ca,
                    certificate=authority / "client.pem",
                    private_key=authority / "server.key",
                )
            )


async def test_tls_to_a_broker_that_speaks_none_fails_in_words(tmp_path: Path) -> None:
    with (
        a_mosquitto(tmp_path, port=a_free_port()) as mosquitto,
        pytest.raises(BusUnavailable, match=r"^mqtts://127\.0\.0\.1:\d+: "),
    ):
        await connect_once(MqttSettings(mosquitto.url.replace("mqtt:", "mqtts:"), connect_timeout=1))


# --- weather ------------------------------------------------------------------------------------------------


async def test_killed_broker_ends_the_connection_and_all_that_waits_for_it(mosquitto: Mosquitto) -> None:
    async with a_client(MqttBroker(MqttSettings(mosquitto.url, answer_timeout=60))) as (connection, _):
        mosquitto.child.send_signal(signal.SIGSTOP)
        waiting = [
            asyncio.create_task(call)
            for call in (
                connection.closed(),
                connection.subscribe("a"),
                connection.unsubscribe("b"),
                *(connection.publish(*[Publication("a", bytes(10_000))] * 10) for _ in range(50)),
            )
        ]
        done, _ = await asyncio.wait(waiting, timeout=0.05)
        assert not done

        mosquitto.kill()

        async with asyncio.timeout(PATIENCE):
            ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(end) for end in ends} == {BusUnavailable}
        assert all(str(end).startswith(mosquitto.url) for end in ends)
        with pytest.raises(BusUnavailable, match=r"closed the connection|reset|pipe"):
            await connection.closed()


async def test_broker_that_comes_back_is_there_for_a_new_connection(mosquitto: Mosquitto) -> None:
    broker = MqttBroker(MqttSettings(mosquitto.url))
    async with a_client(broker) as (connection, _):
        mosquitto.kill()
        with pytest.raises(BusUnavailable):
            await asyncio.wait_for(connection.closed(), PATIENCE)
    with pytest.raises(BusUnavailable):
        await connect_once(MqttSettings(mosquitto.url))

    mosquitto.start()

    await connect_once(MqttSettings(mosquitto.url))


@pytest.mark.parametrize("amount", [1, 1000])
async def test_publishing_to_a_broker_that_hangs_ends_in_time(mosquitto: Mosquitto, amount: int) -> None:
    settings = MqttSettings(mosquitto.url, answer_timeout=0.5)
    async with a_client(MqttBroker(settings)) as (connection, _):
        mosquitto.child.send_signal(signal.SIGSTOP)
        begin = time.monotonic()

        with pytest.raises(BusUnavailable, match="no acknowledgement within"):
            await connection.publish(*[Publication("a", bytes(1000))] * amount)

        assert time.monotonic() - begin < 4
        with pytest.raises(BusUnavailable):
            await connection.closed()


async def test_subscribing_at_a_broker_that_hangs_ends_in_time(mosquitto: Mosquitto) -> None:
    settings = MqttSettings(mosquitto.url, answer_timeout=0.5)
    async with a_client(MqttBroker(settings)) as (connection, _):
        mosquitto.child.send_signal(signal.SIGSTOP)

        async with asyncio.timeout(4):
            with pytest.raises(BusUnavailable, match="no answer within"):
                await connection.subscribe("a")
            with pytest.raises(BusUnavailable):
                await connection.closed()


async def test_idle_connection_to_a_broker_that_hangs_ends_in_time(mosquitto: Mosquitto) -> None:
    async with a_client(MqttBroker(MqttSettings(mosquitto.url, keepalive=1))) as (connection, _):
        mosquitto.child.send_signal(signal.SIGSTOP)

        async with asyncio.timeout(6):
            with pytest.raises(BusUnavailable, match="Keep alive timeout"):
                await connection.closed()


async def test_idle_connection_to_a_broker_that_lives_stays(mosquitto: Mosquitto) -> None:
    async with a_client(MqttBroker(MqttSettings(mosquitto.url, keepalive=1))) as (connection, inbox):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.closed(), 2.5)

        await connection.subscribe("mark")
        await connection.publish(MARK)
        await inbox.next()


async def test_connecting_to_a_broker_that_hangs_ends_in_time(mosquitto: Mosquitto) -> None:
    mosquitto.child.send_signal(signal.SIGSTOP)

    with pytest.raises(BusUnavailable, match=r"no answer within 0\.3 s"):
        await connect_once(MqttSettings(mosquitto.url, connect_timeout=0.3))


async def test_leaving_a_broker_that_hangs_ends_in_time(mosquitto: Mosquitto) -> None:
    async with asyncio.timeout(4), a_client(MqttBroker(MqttSettings(mosquitto.url))):
        mosquitto.child.send_signal(signal.SIGSTOP)


async def test_unix_socket_whose_listener_is_busy_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))

        with pytest.raises(BusUnavailable, match="no answer within"):
            await connect_once(MqttSettings(f"mqtt+unix://{path}", connect_timeout=0.2))


async def test_broker_that_speaks_no_mqtt_is_unavailable(tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example.net ESMTP\r\n")
        await reader.read(1)
        writer.close()

    path = tmp_path / "other.sock"
    async with await asyncio.start_unix_server(greet, path):
        with pytest.raises(BusUnavailable, match=f"^mqtt.unix://{path}: "):
            await connect_once(MqttSettings(f"mqtt+unix://{path}", connect_timeout=2))


# --- nothing is left behind ---------------------------------------------------------------------------------


def open_sockets() -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc/self/fd").iterdir()
        if entry.exists() is not None and _target(entry).startswith("socket:")
    ]


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:  # the listing's own descriptor
        return ""


@pytest.mark.parametrize("scheme", ["mqtt+unix", "mqtt", "mqtts"])
async def test_connection_cancelled_at_any_moment_leaves_nothing_behind(
    tmp_path: Path, authority: Path, tls_lines: tuple[str, ...], scheme: str
) -> None:
    port = None if scheme == "mqtt+unix" else a_free_port()
    with a_mosquitto(tmp_path, *(tls_lines if scheme == "mqtts" else ()), port=port) as mosquitto:
        url = mosquitto.url.replace("mqtt:", f"{scheme}:")
        broker = MqttBroker(MqttSettings(url, ca_cert=authority / "ca.pem" if scheme == "mqtts" else None))
        before, moments = open_sockets(), 0

        async def hold() -> None:
            async with a_client(broker) as (connection, _):
                await connection.subscribe("a")
                await connection.publish(*[Publication("a", b"1", retain=True)] * 300)

        while True:
            task = asyncio.create_task(hold())
            for _ in range(moments):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            moments += 1 if moments < 50 else moments // 10

        await task
        assert moments > 5
        async with asyncio.timeout(PATIENCE):
            while open_sockets() != before:  # noqa: ASYNC110  # the loop closes a socket a turn later, and says nothing
                await asyncio.sleep(0.001)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_left_connection_leaves_nothing_behind(mosquitto: Mosquitto) -> None:
    before = open_sockets()

    await connect_once(MqttSettings(mosquitto.url))

    assert open_sockets() == before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelled_publish_gives_its_place_back(mosquitto: Mosquitto) -> None:
    async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, inbox):
        await connection.subscribe("mark")
        for turns in range(20):
            task = asyncio.create_task(connection.publish(*[Publication("a", b"1")] * 1000))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        await connection.publish(*[MARK] * 1000)

        assert len(await inbox.take(1000)) == 1000


async def test_cancelled_subscribe_harms_no_other(mosquitto: Mosquitto) -> None:
    async with a_client(MqttBroker(MqttSettings(mosquitto.url))) as (connection, inbox):
        task = asyncio.create_task(connection.subscribe("a"))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

        await connection.subscribe("mark")
        await connection.publish(MARK)

        assert (await inbox.next()).topic == "mark"


# --- the libraries ------------------------------------------------------------------------------------------


async def test_library_that_lacks_what_is_used_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(paho.Client, "_create_socket")

    with pytest.raises(ImportError, match=r"aiomqtt 2\.\S+ and paho-mqtt 2\.\S+ .*_create_socket"):
        mqtt.check_libraries()


async def test_aiomqtt_without_a_paho_client_is_named_with_its_version(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def __init__(self, *_: object, **__: object) -> None:
            self._client = None

    monkeypatch.setattr(aiomqtt, "Client", Other)

    with pytest.raises(ImportError, match=r"aiomqtt 2\.\S+ and paho-mqtt 2\.\S+ .*_client"):
        await connect_once(MqttSettings(mosquitto.url))


async def test_a_broker_that_hangs_up_without_a_word_may_have_something_against_our_certificate(
    tmp_path: Path, authority: Path
) -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        settings = MqttSettings(
            f"mqtts://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            ca_cert=authority / "ca.pem",
            certificate=authority / "client.pem",
            private_key=authority / "client.key",
        )

        with pytest.raises(BusUnavailable, match=r"it may refuse our certificate \(of client, valid until 20"):
            await connect_once(settings)

    assert settings.doubt(datetime(2099, 1, 1, tzinfo=UTC)).startswith("; our certificate has expired (20")
