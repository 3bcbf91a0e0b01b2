"""The configuration: every key, every default, and every way to get it wrong."""

import dataclasses
import re
import string
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portwatch import config
from portwatch.config import (
    Config,
    Listen,
    Loaded,
    MemoryBus,
    MqttBrokers,
    MqttBus,
    MqttSocketBus,
    OvsdbSocket,
    OvsdbTcp,
    loading,
)
from portwatch.config.keys import KEYS, variable_of
from portwatch.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _no_file_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "DEFAULT_PATH", tmp_path / "default.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "portwatch.toml"


def loaded(toml: str, file: Path, environ: Mapping[str, str] | None = None) -> Loaded:
    file.write_text(toml)
    return config.load(file, environ or {})


def wrong(toml: str, file: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        loaded(toml, file)
    return caught.value


def from_variable(key: str, text: str) -> Loaded:
    return config.load(None, {variable_of(key): text})


def value_of(loaded: Loaded, key: str) -> object:
    value: object = loaded.config
    for name in key.split("."):
        value = getattr(value, name)
    return value


# --- defaults -----------------------------------------------------------------------------------------------


def test_without_file_and_variables_the_defaults_serve_one_hypervisor() -> None:
    result = config.load(None, {})

    assert result.config == Config()
    assert result.warnings == ()
    assert set(result.sources.values()) == {"default"}


def test_the_defaults_are_those_of_the_contract() -> None:
    rows = {row.key: row.default for row in config.reference()}

    assert rows == {
        "host": "OVSDB `Open_vSwitch.external_ids:hostname`, else the system's host name",
        "loop": "`asyncio`",
        "ovsdb.remote": "`unix:/run/openvswitch/db.sock`",
        "ovsdb.ca_cert": "none",
        "ovsdb.certificate": "none",
        "ovsdb.private_key": "none",
        "openflow.rundir": "`/run/openvswitch`",
        "bridges.integration": "`br-int`",
        "bridges.tunnel": "`br-tun`",
        "bridges.datapath_type": "`system`",
        "tunnel.local_ip": "none",
        "tunnel.type": "`vxlan`",
        "tunnel.port": "the type's own",
        "tunnel.allowed_peers": "`any`",
        "bus.url": "`memory://`",
        "bus.prefix": "`portwatch/v1`",
        "bus.username": "none",
        "bus.password_file": "none",
        "bus.ca_cert": "the system's own",
        "bus.certificate": "none",
        "bus.private_key": "none",
        "ports.details": "`ovsdb`",
        "ports.anti_spoofing": "`true`",
        "ports.arp_responder": "`true`",
        "ports.nd_responder": "`auto`",
        "ports.unknown_unicast": "`flood`",
        "peers.grace": "`keep`",
        "http.listen": "`127.0.0.1:9476`",
        "http.certificate": "none",
        "http.private_key": "none",
        "http.token_file": "none",
        "log.level": "`info`",
        "log.format": "`json`",
    }
    assert all(row.meaning for row in config.reference())


def test_the_default_file_is_read_when_it_is_there() -> None:
    loading.DEFAULT_PATH.write_text('host = "hv1"')

    assert config.load(None, {}).config.host == "hv1"


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml: there is no such file"):
        config.load(tmp_path / "absent.toml", {})


def test_a_variable_may_name_the_file_and_an_argument_wins_over_it(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('host = "other"')
    file.write_text('host = "this"')

    assert config.load(None, {"PORTWATCH_CONFIG": str(other)}).config.host == "other"
    assert config.load(file, {"PORTWATCH_CONFIG": str(other)}).config.host == "this"
    with pytest.raises(ConfigurationError, match="no such file"):
        config.load(None, {"PORTWATCH_CONFIG": str(tmp_path / "absent.toml")})


# --- values become types ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("host", "hv1.example.org", "hv1.example.org"),
        ("loop", "uvloop", config.Loop.UVLOOP),
        ("ovsdb.remote", "unix:/tmp/db.sock", OvsdbSocket(Path("/tmp/db.sock"))),
        ("ovsdb.remote", "tcp:192.0.2.1:6640", OvsdbTcp(ip_address("192.0.2.1"), 6640)),
        ("ovsdb.remote", "tcp:[2001:db8::1]:6640", OvsdbTcp(ip_address("2001:db8::1"), 6640)),
        ("ovsdb.remote", "tcp:[fe80::1%eth0]:6640", OvsdbTcp(ip_address("fe80::1%eth0"), 6640)),
        ("openflow.rundir", "/var/run/openvswitch", Path("/var/run/openvswitch")),
        ("bridges.integration", "br-ex.100_a", "br-ex.100_a"),
        ("bridges.datapath_type", "netdev", config.DatapathType.NETDEV),
        ("tunnel.local_ip", "192.0.2.11", ip_address("192.0.2.11")),
        ("tunnel.local_ip", "2001:db8::11", ip_address("2001:db8::11")),
        ("tunnel.type", "geneve", "geneve"),
        ("tunnel.port", "8472", 8472),
        ("tunnel.allowed_peers", "any", None),
        ("tunnel.allowed_peers", "192.0.2.0/24", (ip_network("192.0.2.0/24"),)),
        (
            "tunnel.allowed_peers",
            "192.0.2.0/24, 2001:db8::/64,",
            (ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
        ),
        ("bus.url", "memory://", MemoryBus()),
        ("bus.url", "mqtt://broker", MqttBus("broker", 1883)),
        ("bus.url", "mqtt://broker/", MqttBus("broker", 1883)),
        (
            "bus.url",
            "mqtt://al%40ice@broker.example.org:11883",
            MqttBus("broker.example.org", 11883, "al@ice"),
        ),
        ("bus.url", "mqtts://192.0.2.9", MqttBus("192.0.2.9", 8883, tls=True)),
        ("bus.url", "mqtts://[2001:db8::9]", MqttBus("2001:db8::9", 8883, tls=True)),
        (
            "bus.url",
            "mqtts://a, mqtts://b:1",
            MqttBrokers((MqttBus("a", 8883, tls=True), MqttBus("b", 1, tls=True))),
        ),
        ("bus.url", "mqtt+unix:///run/mosquitto/a%20b.sock", MqttSocketBus(Path("/run/mosquitto/a b.sock"))),
        ("bus.prefix", "site a/portwatch", "site a/portwatch"),
        ("ports.details", "directory", config.Details.DIRECTORY),
        ("ports.anti_spoofing", "no", False),
        ("ports.arp_responder", "0", False),
        ("ports.arp_responder", "Yes", True),
        ("ports.nd_responder", "auto", None),
        ("ports.nd_responder", "on", True),
        ("ports.nd_responder", "false", False),
        ("ports.unknown_unicast", "drop", config.UnknownUnicast.DROP),
        ("peers.grace", "keep", None),
        ("peers.grace", "0", 0.0),
        ("peers.grace", "12.5", 12.5),
        ("http.listen", "off", None),
        ("http.listen", "127.0.0.2:80", Listen("127.0.0.2", 80)),
        ("http.listen", "localhost:9476", Listen("localhost", 9476)),
        ("http.listen", "[::1]:9476", Listen("::1", 9476)),
        ("log.level", "debug", config.LogLevel.DEBUG),
        ("log.format", "console", config.LogFormat.CONSOLE),
        ("log.format", "  console\r\n", config.LogFormat.CONSOLE),
    ],
)
def test_a_variable_sets_its_key(key: str, text: str, value: object) -> None:
    result = from_variable(key, text)

    assert value_of(result, key) == value
    assert result.sources[key] == variable_of(key)


@pytest.mark.parametrize(
    ("toml", "key", "value"),
    [
        ("ports.anti_spoofing = false", "ports.anti_spoofing", False),
        ("ports.nd_responder = true", "ports.nd_responder", True),
        ('ports.nd_responder = "auto"', "ports.nd_responder", None),
        ("peers.grace = 30", "peers.grace", 30.0),
        ("peers.grace = 0.5", "peers.grace", 0.5),
        ("tunnel.port = 4790", "tunnel.port", 4790),
        (
            'tunnel.allowed_peers = ["10.0.0.0/8", "192.0.2.1"]',
            "tunnel.allowed_peers",
            (ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32")),
        ),
        ('tunnel.allowed_peers = "any"', "tunnel.allowed_peers", None),
    ],
)
def test_the_file_sets_keys_in_toml_s_own_types(toml: str, key: str, value: object, file: Path) -> None:
    result = loaded(toml, file)

    assert value_of(result, key) == value
    assert result.sources[key] == str(file)


def test_a_variable_wins_over_the_file(file: Path) -> None:
    result = loaded('[log]\nlevel = "debug"\nformat = "console"', file, {"PORTWATCH_LOG__LEVEL": "error"})

    assert result.config.log == config.Log(level=config.LogLevel.ERROR, format=config.LogFormat.CONSOLE)
    assert result.sources["log.level"] == "PORTWATCH_LOG__LEVEL"
    assert result.sources["log.format"] == str(file)


def test_the_configuration_is_frozen_and_can_be_compared() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().bus.prefix = config.TopicPrefix("x")  # type: ignore[misc]
    assert Config() == Config()
    assert hash(Config()) == hash(Config())


def test_the_tunnel_knows_its_port_and_whom_it_allows() -> None:
    assert config.Tunnel().udp_port == 4789
    assert from_variable("tunnel.type", "geneve").config.tunnel.udp_port == 6081
    assert from_variable("tunnel.type", "gre").config.tunnel.udp_port is None
    assert from_variable("tunnel.port", "8472").config.tunnel.udp_port == 8472

    some = from_variable("tunnel.allowed_peers", "192.0.2.0/24").config.tunnel
    assert some.allows(ip_address("192.0.2.7"))
    assert not some.allows(ip_address("198.51.100.7"))
    assert not some.allows(ip_address("2001:db8::7"))
    assert config.Tunnel().allows(ip_address("2001:db8::7"))


def test_the_user_may_stand_in_the_url_or_beside_it() -> None:
    assert from_variable("bus.url", "mqtt://alice@broker").config.bus.user == "alice"
    both = {"PORTWATCH_BUS__URL": "mqtt://broker", "PORTWATCH_BUS__USERNAME": "bob"}
    assert config.load(None, both).config.bus.user == "bob"
    assert Config().bus.user is None


# --- wrong values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("host", "a/b"),
        ("host", "$SYS"),
        ("host", "x" * 129),
        ("loop", "trio"),
        ("ovsdb.remote", "/run/openvswitch/db.sock"),
        ("ovsdb.remote", "unix:db.sock"),
        ("ovsdb.remote", "unix:"),
        ("ovsdb.remote", "tcp:192.0.2.1"),
        ("ovsdb.remote", "tcp:ovsdb.example.org:6640"),
        ("ovsdb.remote", "tcp:2001:db8::1:6640"),
        ("ovsdb.remote", "tcp:[192.0.2.1]:6640"),
        ("ovsdb.remote", "tcp:[fe80::1%a b]:6640"),
        ("ovsdb.remote", "tcp:192.0.2.1:0"),
        ("ovsdb.remote", "ptcp:6640"),
        ("ovsdb.ca_cert", "ca.pem"),
        ("ovsdb.ca_cert", "/ca\n.pem"),
        ("openflow.rundir", "~/ovs"),
        ("bridges.integration", "-br"),
        ("bridges.integration", "br/int"),
        ("bridges.integration", "br int"),
        ("bridges.integration", "br-integration-x"),
        ("bridges.integration", "system@br"),
        ("bridges.integration", "tcp:br"),
        ("bridges.integration", ".."),
        ("bridges.integration", "brü"),
        ("bridges.datapath_type", "dpdk"),
        ("tunnel.local_ip", "hv1"),
        ("tunnel.local_ip", "0.0.0.0"),
        ("tunnel.local_ip", "::1"),
        ("tunnel.local_ip", "ff02::1"),
        ("tunnel.local_ip", "255.255.255.255"),
        ("tunnel.local_ip", "192.0.2.1/24"),
        ("tunnel.local_ip", "fe80::1%eth0"),
        ("tunnel.type", "stt"),
        ("tunnel.type", "VXLAN"),
        ("tunnel.port", "0"),
        ("tunnel.port", "65536"),
        ("tunnel.port", "4789.0"),
        ("tunnel.port", "-1"),
        ("tunnel.port", "\u0661"),
        ("tunnel.allowed_peers", ","),
        ("tunnel.allowed_peers", "192.0.2.1/24"),
        ("tunnel.allowed_peers", "192.0.2.0/33"),
        ("tunnel.allowed_peers", "fe80::%eth0/64"),
        ("bus.url", "broker:1883"),
        ("bus.url", "http://broker"),
        ("bus.url", "memory"),
        ("bus.url", "memory://x"),
        ("bus.url", "mqtt://"),
        ("bus.url", "mqtt://@broker"),
        ("bus.url", "mqtt://broker:0"),
        ("bus.url", "mqtt://broker:99999"),
        ("bus.url", "mqtt://broker/topic"),
        ("bus.url", "mqtt://bro ker"),
        ("bus.url", "mqtt://-broker"),
        ("bus.url", "mqtt://300.1.2.3"),
        ("bus.url", "mqtt://2001:db8::9"),
        ("bus.url", "mqtt://[2001:db8::zz]"),
        ("bus.url", "mqtt://a%00b@broker"),
        ("bus.url", "mqtt://a%ffb@broker"),
        ("bus.url", "mqtt+unix://run/mosquitto.sock"),
        ("bus.url", "mqtt+unix:///run/%0a.sock"),
        ("bus.prefix", "portwatch/#"),
        ("bus.prefix", "portwatch/+"),
        ("bus.prefix", "/portwatch"),
        ("bus.prefix", "portwatch/"),
        ("bus.prefix", "a//b"),
        ("bus.prefix", "$share/x"),
        ("bus.prefix", "a\x01b"),
        ("bus.prefix", "x" * 257),
        ("bus.username", "a\nb"),
        ("bus.password_file", "password"),
        ("ports.details", "bus"),
        ("ports.anti_spoofing", "maybe"),
        ("ports.anti_spoofing", "2"),
        ("ports.nd_responder", "automatic"),
        ("ports.unknown_unicast", "learn"),
        ("peers.grace", "-1"),
        ("peers.grace", "forever"),
        ("peers.grace", "nan"),
        ("peers.grace", "inf"),
        ("peers.grace", "1e400"),
        ("http.listen", "9476"),
        ("http.listen", ":9476"),
        ("http.listen", "*:9476"),
        ("http.listen", "::1:9476"),
        ("http.listen", "127.0.0.1"),
        ("http.listen", "127.0.0.1:0"),
        ("http.listen", "127.0.0.1:port"),
        ("log.level", "INFO"),
        ("log.format", "logfmt"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_its_key_and_what_would_be_right(key: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_variable(key, text)

    error = caught.value
    assert (error.source, error.key) == (variable_of(key), key)
    assert str(error).startswith(f"{variable_of(key)}: {key} = ")
    assert error.expected
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ("host = 1", "host"),
        ("host = {}", "host"),
        ('ports.anti_spoofing = "true"', "ports.anti_spoofing"),
        ("ports.anti_spoofing = 1", "ports.anti_spoofing"),
        ("tunnel.port = true", "tunnel.port"),
        ('tunnel.port = "4789"', "tunnel.port"),
        ("tunnel.port = 4789.0", "tunnel.port"),
        ("tunnel.local_ip = 3221225985", "tunnel.local_ip"),
        ("tunnel.allowed_peers = []", "tunnel.allowed_peers"),
        ("tunnel.allowed_peers = [167772160]", "tunnel.allowed_peers"),
        ('tunnel.allowed_peers = "10.0.0.0/8"', "tunnel.allowed_peers"),
        ("peers.grace = false", "peers.grace"),
        ("peers.grace = nan", "peers.grace"),
        ("peers.grace = inf", "peers.grace"),
        ("peers.grace = 0x" + "f" * 6000, "peers.grace"),
        ("peers.grace = [0x" + "f" * 6000 + "]", "peers.grace"),
        ("http.listen = false", "http.listen"),
        ("bus.url = 2026-11-22", "bus.url"),
        ("bus = 3", "bus"),
        ("[[bus]]\nurl = 'memory://'", "bus"),
    ],
)
def test_a_wrong_value_in_the_file_is_named_with_file_and_key(toml: str, key: str, file: Path) -> None:
    error = wrong(toml, file)

    assert (error.source, error.key) == (str(file), key)
    assert len(str(error)) < 400


def test_a_wrong_value_that_is_long_is_shown_short(file: Path) -> None:
    error = wrong(f'bridges.tunnel = "{"x" * 5000}"', file)

    assert len(str(error)) < 300
    assert "xxx…'" in str(error)


def test_all_that_is_wrong_can_be_had_at_once_in_the_order_of_the_reference(file: Path) -> None:
    file.write_text('log.level = "loud"\nbridges.tunnel = "-x"\nports = 1')

    found = config.problems(file, {"PORTWATCH_TUNNEL__PORT": "x"})

    assert [problem.key for problem in found] == ["ports", "bridges.tunnel", "tunnel.port", "log.level"]
    assert config.problems(None, {}) == ()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"host = \n", "line 1: not TOML: Invalid value"),
        (b'host = "a"\nhost = "b"\n', "line 2: not TOML: Cannot overwrite a value"),
        (b'host = "a"\n[bus\n', "line 2: not TOML: "),
        (b"host", "not TOML: "),
        (b'\n\nhost = "\xff"', "line 3: not UTF-8"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"1" * 5000, "not TOML: "),
        (b"#" * (1024 * 1024 + 1), "cannot be a configuration: larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_not_toml_is_named_with_its_line(content: bytes, text: str, file: Path) -> None:
    file.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        config.load(file, {})

    assert str(caught.value).startswith(f"{file}: ")
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert config.problems(file, {}) != ()


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        config.load(tmp_path, {})
    with pytest.raises(ConfigurationError, match="cannot be read: embedded null"):
        config.load(Path("/etc/\0"), {})


# --- secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://alice:hunter2@broker",
        "mqtts://alice:hunter2@broker:99999",
        "mqtt://:hunter2@broker",
        "mqtt://alice:hunter2",
        "mqtt://alice:hunter2@",
        "mqtt://alice:h@hunter2@broker",
        "mqtt://alice:a/hunter2@broker/x",
        "mqtt://alice:?hunter2@broker",
        "mqtt://alice:hunter2@broker,mqtt://alice@other",
        "mqtt://alice@broker,mqtt://alice:hunter2@other",
        "mqtt://alice:a://,hunter2@broker,mqtt://alice@other",
        "mqtt://broker?password=hunter2",
        "mqtt://broker:1883?password=hunter2",
        "alice:hunter2@broker",
        "mqtt:alice:hunter2@broker",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_variable("bus.url", url)

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.value)


def test_who_writes_a_password_into_the_url_is_told_where_it_belongs() -> None:
    with pytest.raises(ConfigurationError, match=r"'mqtt://alice:\*\*\*@broker': .* bus\.password_file"):
        from_variable("bus.url", "mqtt://alice:hunter2@broker")


def test_a_password_where_its_file_belongs_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_variable("bus.password_file", "hunter2")

    assert "hunter2" not in str(caught.value)


def test_a_password_under_an_unknown_key_is_not_repeated(file: Path) -> None:
    warnings = loaded('[bus]\npassword = "hunter2"', file, {"PORTWATCH_BUS__PASSWORD": "hunter2"}).warnings

    assert warnings == (
        f"{file}: bus.password is not known and has no effect; did you mean bus.password_file?",
        "environment: PORTWATCH_BUS__PASSWORD is not known and has no effect;"
        " did you mean PORTWATCH_BUS__PASSWORD_FILE?",
    )


def test_a_path_that_was_set_and_where_nothing_is_is_told(file: Path, tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    there.touch()
    result = loaded(
        f'[bus]\nurl = "mqtts://broker"\nca_cert = "{there}"\ncertificate = "/nowhere/host.pem"',
        file,
        {"PORTWATCH_BUS__PRIVATE_KEY": "/nowhere/host.key"},
    )

    assert list(config.absent_files(result)) == [
        f"{file}: bus.certificate = /nowhere/host.pem: nothing is there",
        "PORTWATCH_BUS__PRIVATE_KEY: bus.private_key = /nowhere/host.key: nothing is there",
    ]
    assert not list(config.absent_files(config.load(None, {}))), "what is a default is no claim of anybody's"


def test_what_defaults_mean_that_are_right_for_a_single_host_is_told(file: Path) -> None:
    alone = config.effective(config.load(None, {}))
    among_others = config.effective(loaded('[bus]\nurl = "mqtt://b"\n[tunnel]\nlocal_ip = "192.0.2.1"', file))

    assert re.search(r'url = "memory://" +# default: this host alone\n', alone)
    assert re.search(r"# local_ip = +# default: none: nothing is tunnelled\n", alone)
    assert "alone" not in among_others
    assert "tunnelled" not in among_others


def test_the_content_of_the_password_file_is_never_shown(file: Path, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2")

    result = loaded(f'[bus]\nurl = "mqtt://alice@localhost"\npassword_file = "{password}"', file)

    assert str(password) in config.effective(result)
    assert "hunter2" not in config.effective(result) + repr(result)


# --- unknown names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "warning"),
    [
        ("[tunel]\nport = 1", "[tunel] is not known and has no effect; did you mean tunnel?"),
        ("[bus]\nulr = 1", "bus.ulr is not known and has no effect; did you mean bus.url?"),
        ("[bus]\nlisten = 1", "bus.listen is not known and has no effect; did you mean http.listen?"),
        ("local_ip = 1", "local_ip is not known and has no effect; did you mean tunnel.local_ip?"),
        ("hots = 1", "hots is not known and has no effect; did you mean host?"),
        ("[tunnel]\nfoo = 1", "tunnel.foo is not known and has no effect"),
        ("[http]\ncertifcate = 1", "http.certifcate is not known and has no effect; did you mean http.certificate?"),
        ('"x\\ny" = 1', "x\\ny is not known and has no effect"),
    ],
)
def test_an_unknown_name_in_the_file_is_a_warning_with_the_nearest(toml: str, warning: str, file: Path) -> None:
    assert loaded(toml, file).warnings == (f"{file}: {warning}",)


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("PORTWATCH_BUS_URL", "PORTWATCH_BUS__URL"),
        ("PORTWATCH_TUNNEL_PORT", "PORTWATCH_TUNNEL__PORT"),
        ("PORTWATCH_HOSTNAME", "PORTWATCH_HOST"),
        ("PORTWATCH_bus__url", "PORTWATCH_BUS__URL"),
        ("PORTWATCH_CONFIG_FILE", "PORTWATCH_CONFIG"),
    ],
)
def test_an_unknown_variable_is_a_warning_with_the_nearest(variable: str, nearest: str) -> None:
    assert config.load(None, {variable: "x"}).warnings == (
        f"environment: {variable} is not known and has no effect; did you mean {nearest}?",
    )


@pytest.mark.parametrize("variable", ["PORTWATCH_FOO", "PORTWATCH_BUS__FOO"])
def test_an_unknown_variable_that_is_like_none_is_a_warning_without_a_guess(variable: str) -> None:
    (warning,) = config.load(None, {variable: "x"}).warnings
    assert warning.endswith("has no effect")


def test_an_empty_variable_counts_as_not_set_and_says_so() -> None:
    result = config.load(None, {"PORTWATCH_TUNNEL__LOCAL_IP": " "})

    assert result.config == Config()
    assert result.warnings == ("environment: PORTWATCH_TUNNEL__LOCAL_IP is empty and counts as not set",)


def test_variables_that_kubernetes_sets_for_a_service_are_no_warnings() -> None:
    environ = {
        "PORTWATCH_SERVICE_HOST": "10.96.0.7",
        "PORTWATCH_SERVICE_PORT": "9476",
        "PORTWATCH_SERVICE_PORT_METRICS": "9476",
        "PORTWATCH_PORT": "tcp://10.96.0.7:9476",
        "PORTWATCH_PORT_9476_TCP": "tcp://10.96.0.7:9476",
        "PORTWATCH_PORT_9476_TCP_ADDR": "10.96.0.7",
        "PORTWATCH_METRICS_SERVICE_HOST": "10.96.0.8",
        "PORTWATCH_METRICS_PORT": "tcp://10.96.0.8:9476",
        "OTHER": "x",
    }

    assert config.load(None, environ) == config.load(None, {})


# --- values that do not go together -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "key", "expected"),
    [
        ('bridges.tunnel = "br-int"', "bridges.tunnel", "two different bridges"),
        ('bridges.integration = "br-tun"', "bridges.integration", "two different bridges"),
        ('ovsdb.remote = "ssl:192.0.2.1:6640"', "ovsdb.remote", "ovsdb.ca_cert and ovsdb.certificate and"),
        ('bus = { url = "mqtts://b", certificate = "/c" }', "bus.certificate", "bus.private_key"),
        ('bus = { url = "mqtts://b", private_key = "/k" }', "bus.private_key", "bus.certificate"),
        ('bus = { url = "mqtt://a@b", username = "c" }', "bus.username", "the user that bus.url names"),
        ('bus = { url = "mqtt://b", password_file = "/p" }', "bus.password_file", "bus.username beside it"),
        ('bus.url = "mqtt://a,mqtts://b"', "bus.url", "reached alike"),
        ('bus.url = "mqtt://a,mqtt://x@b"', "bus.url", "reached alike"),
        ('bus.url = "mqtt://a,memory://"', "bus.url", "reached alike"),
        ('bus.url = "mqtt://a,mqtt://a:1883"', "bus.url", "each of them once"),
        ('bus = { url = "mqtt://u@a,mqtt://u@b", username = "c" }', "bus.username", "the user that bus.url names"),
        ('http = { certificate = "/c" }', "http.certificate", "http.private_key"),
        ('http = { private_key = "/k" }', "http.private_key", "http.certificate"),
        ('http.listen = "0.0.0.0:80"', "http.listen", "http.token_file beside it, or an address of loopback"),
        ('http = { listen = "[::]:80", token_file = "/t" }', "http.listen", "http.certificate"),
        (
            'http = { listen = "192.0.2.1:80", certificate = "/c", private_key = "/k" }',
            "http.listen",
            "http.token_file beside it",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(toml: str, key: str, expected: str, file: Path) -> None:
    error = wrong(toml, file)

    assert (error.source, error.key) == (str(file), key)
    assert expected in error.expected


@pytest.mark.parametrize(
    ("toml", "warning"),
    [
        ('tunnel = { type = "gre", port = 1 }', "tunnel.port has no effect: gre has no ports"),
        (
            'tunnel = { local_ip = "192.0.2.1", allowed_peers = ["192.0.2.0/24", "fd00::/8"] }',
            "tunnel.allowed_peers: fd00::/8 is IPv6 and tunnel.local_ip is IPv4: no tunnel joins the two",
        ),
        (
            'ovsdb.ca_cert = "/ca"',
            "ovsdb.ca_cert has no effect with ovsdb.remote = unix:/run/openvswitch/db.sock",
        ),
        ('bus.username = "a"', "bus.username has no effect with bus.url = memory://"),
        (
            'bus = { url = "mqtt://b", ca_cert = "/ca" }',
            "bus.ca_cert has no effect with bus.url = mqtt://b:1883",
        ),
        (
            'bus = { url = "mqtt://a@b", password_file = "/p" }',
            "bus.url = mqtt://a@b:1883: the password crosses the network in clear; mqtts:// hides it",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(toml: str, warning: str, file: Path) -> None:
    assert loaded(toml, file).warnings == (warning,)


@pytest.mark.parametrize(
    "toml",
    [
        'bus.url = "mqtt://broker"',
        'bus = { url = "mqtts://a@b", password_file = "/p", ca_cert = "/c" }',
        'bus = { url = "mqtt://a@127.0.0.1", password_file = "/p" }',
        'bus = { url = "mqtt+unix:///s", username = "a", password_file = "/p" }',
        'ovsdb = { remote = "ssl:[::1]:6640", ca_cert = "/a", certificate = "/b", private_key = "/c" }',
        'tunnel = { local_ip = "2001:db8::1", allowed_peers = ["2001:db8::/64"] }',
        'http = { listen = "[::]:80", certificate = "/c", private_key = "/k", token_file = "/t" }',
    ],
)
def test_what_goes_together_is_no_warning(toml: str, file: Path) -> None:
    assert loaded(toml, file).warnings == ()


# --- for people ---------------------------------------------------------------------------------------------


def test_the_effective_configuration_says_where_each_value_comes_from(file: Path) -> None:
    result = loaded('[tunnel]\nlocal_ip = "192.0.2.11"', file, {"PORTWATCH_HTTP__LISTEN": "off"})

    text = config.effective(result)

    assert [line.split() for line in text.splitlines() if "local_ip" in line or "listen" in line] == [
        ["local_ip", "=", '"192.0.2.11"', "#", str(file)],
        ["listen", "=", '"off"', "#", "PORTWATCH_HTTP__LISTEN"],
    ]
    assert "# port = " in text
    assert text.endswith("\n")
    assert_reads_back(result)


def test_there_is_a_variable_for_every_key() -> None:
    variables = {variable_of(key) for key in KEYS}

    assert len(variables) == len(KEYS)
    assert {"PORTWATCH_HOST", "PORTWATCH_LOOP", "PORTWATCH_BUS__PASSWORD_FILE"} <= variables


# --- any value of any key -----------------------------------------------------------------------------------

_TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="abc019.:/[]@%*-+#$, \n", max_size=40),
    st.ip_addresses().map(str),
    st.ip_addresses(v=4, network="192.0.2.0/24").map(lambda address: f"{address}/24"),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"(unix|tcp|ssl):(/[a-z ]{0,5}|\[?[0-9a-f.:]{0,12}\]?:[0-9]{0,6})", fullmatch=True),
    st.from_regex(r"(memory|mqtts?|mqtt\+unix)://([a-z%@:]{0,6}@)?[a-z0-9.\[\]:/]{0,15}", fullmatch=True),
    st.sampled_from(["any", "auto", "keep", "off", "true", "no", "vxlan", "gre", "flood", "debug", "br-int"]),
)
_VALUES = st.recursive(
    st.one_of(_TEXTS, st.integers(), st.floats(), st.booleans(), st.datetimes(), st.dates(), st.times(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_KEYS = st.sampled_from(sorted(KEYS))


@given(key=_KEYS, text=_TEXTS)
@example(key="host", text="\udcff")
@example(key="bus.url", text="mqtt+unix:///%ed%b0%80")
def test_any_text_in_any_variable_loads_or_is_refused_by_its_key(key: str, text: str) -> None:
    assert_loads_or_names(key, {variable_of(key): text})


@given(key=_KEYS, value=_VALUES)
def test_any_value_of_any_key_in_the_file_loads_or_is_refused_by_its_key(key: str, value: object) -> None:
    section, _, name = key.rpartition(".")
    with the_file_says({section: {name: value}} if section else {name: value}):
        assert_loads_or_names(key, {})


@given(content=st.binary(max_size=200) | st.text(alphabet=string.printable, max_size=100).map(str.encode))
def test_any_file_loads_or_is_refused_in_one_line(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "portwatch.toml"
        path.write_bytes(content)
        assert all(len(str(problem).splitlines()) == 1 for problem in config.problems(path, {}))


def assert_loads_or_names(key: str, environ: Mapping[str, str]) -> None:
    """Whatever is wrong is said of this key, or of its section's others that it contradicts, in one line."""
    found = config.problems(None, environ)

    assert {problem.key.partition(".")[0] for problem in found} <= {key.partition(".")[0]}
    assert all(len(str(problem).splitlines()) == 1 for problem in found)
    if not found:
        assert_reads_back(config.load(None, environ))


def assert_reads_back(result: Loaded) -> None:
    """What `check-config` prints is a file that means the same."""
    with the_file_says(tomllib.loads(config.effective(result))):
        assert config.load(None, {}).config == result.config


@contextmanager
def the_file_says(table: Mapping[str, object]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_file", lambda *_: ("portwatch.toml", table))
        yield
