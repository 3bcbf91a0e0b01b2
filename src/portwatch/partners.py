"""Whom we talk to, as the configuration has it: broker, OVSDB, who may ask us, and our own name on the bus."""

import socket

from portwatch.bus.connection import Broker
from portwatch.bus.failover import Failover
from portwatch.bus.memory import MemoryBroker
from portwatch.bus.mqtt import MqttBroker, MqttSettings
from portwatch.config import Config, MemoryBus, MqttBrokers, OvsdbSocket
from portwatch.errors import ConfigurationError
from portwatch.http.access import Access
from portwatch.model import HostName
from portwatch.ovsdb.session import Tls


def own_name(config: Config, hostname: str | None) -> HostName:
    """Return this host's name on the bus; *hostname* is what OVSDB calls it."""
    if config.host is not None:
        return config.host
    name = hostname or socket.gethostname()
    source = "OVSDB, Open_vSwitch.external_ids:hostname" if hostname else "this system's host name"
    try:
        return HostName(name)
    except ValueError as error:
        raise ConfigurationError(source, "host", name, f"a name for the bus: {error}") from None


def broker_of(config: Config) -> Broker:
    """Return the broker, or brokers, that the configuration names."""
    bus = config.bus
    if isinstance(bus.url, MemoryBus):
        return MemoryBroker()
    urls = bus.url.brokers if isinstance(bus.url, MqttBrokers) else (bus.url,)
    brokers = [
        MqttBroker(
            MqttSettings(
                url=str(url),
                username=bus.user,
                password_file=bus.password_file,
                ca_cert=bus.ca_cert,
                certificate=bus.certificate,
                private_key=bus.private_key,
            )
        )
        for url in urls
    ]
    return brokers[0] if len(brokers) == 1 else Failover(brokers)


def access_of(config: Config) -> Access:
    """Return what is asked of those who ask this host's agent."""
    http = config.http
    return Access(certificate=http.certificate, private_key=http.private_key, token_file=http.token_file)


def tls_of(config: Config) -> Tls | None:
    """Return the files for an `ssl:` remote, if it is one."""
    ovsdb = config.ovsdb
    if isinstance(ovsdb.remote, OvsdbSocket) or not (ovsdb.ca_cert and ovsdb.certificate and ovsdb.private_key):
        return None
    return Tls(private_key=ovsdb.private_key, certificate=ovsdb.certificate, ca_cert=ovsdb.ca_cert)
