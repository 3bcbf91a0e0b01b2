"""From a file and the environment to a `Config`, and back to text for `portwatch check-config`.

Variables win over the file. What is unknown is a warning, what is wrong a `ConfigurationError`; nothing else
leaves this module.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from portwatch.config import forms, places
from portwatch.config.forms import Form
from portwatch.config.keys import KEYS, SECTIONS, TOP, UDP_PORTS, Config, variable_of
from portwatch.config.places import MemoryBus, MqttBrokers, MqttBus, OvsdbTcp
from portwatch.errors import ConfigurationError

DEFAULT_PATH: Final = Path("/etc/portwatch/portwatch.toml")
FILE_MAX: Final = 1024 * 1024
"""Bytes; a larger file is some other file."""

DEFAULT: Final = "default"
FILE_VARIABLE: Final = "PORTWATCH_CONFIG"

_VARIABLES: Final = MappingProxyType({variable_of(dotted): dotted for dotted in KEYS})
_PLACE: Final = re.compile(r"(?P<words>.*) \(at (?:line (?P<line>[0-9]+), column [0-9]+|end of document)\)", re.DOTALL)
_SHOWN: Final = 80
"""Characters of a wrong value that an error line repeats."""

# Kubernetes sets these for a Service of ours in every container; nobody means them as configuration.
_OF_KUBERNETES: Final = re.compile(
    r"PORTWATCH_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_OF_KUBERNETES: Final = re.compile(r"PORTWATCH_(\w+_)?PORT=(tcp|udp|sctp)://.*", re.DOTALL)


_MEANS: Final = MappingProxyType({"bus.url": "this host alone", "tunnel.local_ip": "nothing is tunnelled"})
"""What defaults mean that are right for a single hypervisor only."""


class FileUnusable(ConfigurationError):
    """The file as a whole cannot be read, or is not TOML; `line` says where, if it can be said."""

    def __init__(self, path: Path, expected: str, line: int | None = None) -> None:
        source = _one_line(str(path))
        super().__init__(source, "", None, expected)
        self.line = line
        self.args = (f"{source}: {f'line {line}: ' if line else ''}{expected}",)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, what is odd about it, and where each dotted key's value comes from."""

    config: Config
    warnings: tuple[str, ...]
    sources: Mapping[str, str]


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Return the configuration, or raise what is wrong with the first wrong key.

    Without *path* the file is what `PORTWATCH_CONFIG` names, else `DEFAULT_PATH` if it exists.
    """
    reading = _Reading(path, environ)
    if reading.wrong:
        raise reading.wrong[0]
    return reading.loaded()


def problems(path: Path | None, environ: Mapping[str, str]) -> tuple[ConfigurationError, ...]:
    """Return all that `load` would find wrong, in the order of the reference."""
    try:
        return tuple(_Reading(path, environ).wrong)
    except FileUnusable as unusable:
        return (unusable,)


def effective(loaded: Loaded) -> str:
    """Return the configuration as TOML, with the source of each value; a key that is not set is a comment."""
    lines = [_effective_line(name, name, loaded) for name in TOP]
    for section in SECTIONS:
        lines += ("", f"[{section}]")
        lines += (_effective_line(dotted, name, loaded) for dotted, name in _keys_of(section))
    return "\n".join((*lines, ""))


def absent_files(loaded: Loaded) -> Iterator[str]:
    """Yield the paths that somebody set and where nothing is: whoever needs it would look there again and again."""
    for dotted in KEYS:
        section, _, name = dotted.rpartition(".")
        value = getattr(getattr(loaded.config, section), name) if section else None
        if isinstance(value, Path) and loaded.sources[dotted] != DEFAULT and not os.access(value, os.F_OK):
            yield f"{loaded.sources[dotted]}: {dotted} = {value}: nothing is there"


class _Reading:
    """One reading of file and environment."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self.warnings: list[str] = []
        self.wrong: list[ConfigurationError] = []
        self.given: dict[str, tuple[str, object]] = {}
        self.config = Config()
        self._take_file(*_file(path, environ))
        self._take_variables(environ)
        self._build()
        if not self.wrong:
            self.wrong += _contradictions(self.config, self.source)
            self.warnings += _remarks(self.config)

    def loaded(self) -> Loaded:
        sources = MappingProxyType({dotted: self.source(dotted) for dotted in KEYS})
        return Loaded(self.config, tuple(self.warnings), sources)

    def source(self, dotted: str) -> str:
        return self.given[dotted][0] if dotted in self.given else DEFAULT

    def _take_file(self, source: str, table: Mapping[str, object]) -> None:
        for name, value in table.items():
            if name in TOP:
                self.given[name] = (source, value)
            elif name not in SECTIONS:
                section = isinstance(value, dict)
                self._unknown(source, f"[{name}]" if section else name, _nearest(name, SECTIONS if section else KEYS))
            elif isinstance(value, dict):
                for key, inner in value.items():
                    dotted = f"{name}.{key}"
                    if dotted in KEYS:
                        self.given[dotted] = (source, inner)
                    else:
                        self._unknown(source, dotted, _nearest(dotted, KEYS))
            else:
                shown = _concealed(forms.WORDS, value)
                self.wrong.append(ConfigurationError(source, name, shown, f"a section, [{name}]"))

    def _take_variables(self, environ: Mapping[str, str]) -> None:
        for variable, text in sorted(environ.items()):
            dotted = _VARIABLES.get(variable)
            if dotted is None:
                if variable.startswith("PORTWATCH_") and variable != FILE_VARIABLE and not _foreign(variable, text):
                    dotted = variable.removeprefix("PORTWATCH_").lower().replace("__", ".")
                    near = _nearest(dotted, (*KEYS, "config"))  # as FILE_VARIABLE has it
                    self._unknown("environment", variable, near and variable_of(near))
            elif not text.strip():
                self.warnings.append(f"environment: {variable} is empty and counts as not set")
            else:
                self.given[dotted] = (variable, KEYS[dotted].form.from_text(text.strip()))

    def _build(self) -> None:
        values: dict[str, Any] = {}
        for dotted, key in KEYS.items():
            if dotted not in self.given:
                continue
            source, value = self.given[dotted]
            try:
                values[dotted] = key.form.read(value)
            except places.Advice as advice:
                self.wrong.append(ConfigurationError(source, dotted, _concealed(key.form, value), str(advice)))
            except ValueError:
                self.wrong.append(ConfigurationError(source, dotted, _concealed(key.form, value), key.form.expected))
        top = {name: values[name] for name in TOP if name in values}
        sections = {
            section: kind(**{name: values[dotted] for dotted, name in _keys_of(section) if dotted in values})
            for section, kind in SECTIONS.items()
        }
        self.config = Config(**top, **sections)

    def _unknown(self, source: str, name: str, nearest: str | None = None) -> None:
        hint = f"; did you mean {nearest}?" if nearest else ""
        self.warnings.append(f"{source}: {_one_line(name)} is not known and has no effect{hint}")


def _file(path: Path | None, environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of the file that counts."""
    named = environ.get(FILE_VARIABLE)
    explicit = path or (Path(named) if named else None)
    chosen = explicit or DEFAULT_PATH
    try:
        with chosen.open("rb") as file:
            content = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        if explicit is None:
            return DEFAULT, {}
        raise FileUnusable(chosen, "there is no such file") from None
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise FileUnusable(chosen, f"cannot be read: {words}") from None
    if len(content) > FILE_MAX:
        raise FileUnusable(chosen, f"cannot be a configuration: larger than {FILE_MAX} bytes")
    return _one_line(str(chosen)), _toml(chosen, content)


def _toml(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise FileUnusable(path, "not UTF-8", content.count(b"\n", 0, error.start) + 1) from None
    except RecursionError:
        raise FileUnusable(path, "not usable: nested too deeply") from None
    except ValueError as error:
        match = _PLACE.fullmatch(str(error))
        words = match["words"] if match else str(error)
        line = int(match["line"]) if match and match["line"] else None
        raise FileUnusable(path, f"not TOML: {_one_line(words)}", line) from None


def _contradictions(config: Config, source: Callable[[str], str]) -> Iterator[ConfigurationError]:
    """Yield what is wrong with values that are right by themselves."""

    def wrong(dotted: str, value: object, expected: str) -> ConfigurationError:
        return ConfigurationError(source(dotted), dotted, str(value), expected)

    bridges, ovsdb, bus = config.bridges, config.ovsdb, config.bus
    if bridges.integration == bridges.tunnel:
        blamed = "bridges.integration" if source("bridges.tunnel") == DEFAULT else "bridges.tunnel"
        yield wrong(blamed, bridges.tunnel, "two different bridges, bridges.integration and bridges.tunnel")
    if isinstance(ovsdb.remote, OvsdbTcp) and ovsdb.remote.ssl:
        files = {"ca_cert": ovsdb.ca_cert, "certificate": ovsdb.certificate, "private_key": ovsdb.private_key}
        missing = " and ".join(f"ovsdb.{name}" for name, path in files.items() if path is None)
        if missing:
            yield wrong("ovsdb.remote", ovsdb.remote, f"{missing} beside it")
    if bus.certificate and not bus.private_key:
        yield wrong("bus.certificate", bus.certificate, "bus.private_key beside it")
    if bus.private_key and not bus.certificate:
        yield wrong("bus.private_key", bus.private_key, "bus.certificate beside it")
    http = config.http
    if http.certificate and not http.private_key:
        yield wrong("http.certificate", http.certificate, "http.private_key beside it")
    if http.private_key and not http.certificate:
        yield wrong("http.private_key", http.private_key, "http.certificate beside it")
    if http.listen and not http.listen.local and not (http.certificate and http.token_file):
        expected = "http.certificate, http.private_key and http.token_file beside it, or an address of loopback"
        yield wrong("http.listen", http.listen, expected)
    if bus.username and isinstance(bus.url, MqttBus | MqttBrokers) and bus.url.user not in (None, bus.username):
        yield wrong("bus.username", bus.username, "the user that bus.url names, or none there")
    if bus.password_file and not bus.user and not isinstance(bus.url, MemoryBus):
        yield wrong("bus.password_file", bus.password_file, "bus.username beside it, or a user in bus.url")


def _remarks(config: Config) -> Iterator[str]:
    """Yield what is allowed, and probably not what was meant."""
    tunnel, ovsdb, bus = config.tunnel, config.ovsdb, config.bus
    if tunnel.port and tunnel.type not in UDP_PORTS:
        yield f"tunnel.port has no effect: {tunnel.type} has no ports"
    if tunnel.local_ip:
        for network in tunnel.allowed_peers or ():
            if network.version != tunnel.local_ip.version:
                yield (
                    f"tunnel.allowed_peers: {network} is IPv{network.version} and tunnel.local_ip is"
                    f" IPv{tunnel.local_ip.version}: no tunnel joins the two"
                )
    if not (isinstance(ovsdb.remote, OvsdbTcp) and ovsdb.remote.ssl):
        yield from _idle("ovsdb", ovsdb, ("ca_cert", "certificate", "private_key"), f"remote = {ovsdb.remote}")
    if isinstance(bus.url, MemoryBus) and config.ports.details is forms.Details.DIRECTORY:
        yield "ports.details = directory finds no details with bus.url = memory://: no orchestrator can write there"
    if isinstance(bus.url, MemoryBus):
        yield from _idle("bus", bus, ("username", "password_file"), "url = memory://")
    if not (isinstance(bus.url, MqttBus | MqttBrokers) and bus.url.tls):
        yield from _idle("bus", bus, ("ca_cert", "certificate", "private_key"), f"url = {bus.url}")
    if bus.password_file and isinstance(bus.url, MqttBus | MqttBrokers) and not bus.url.tls and not bus.url.local:
        yield f"bus.url = {bus.url}: the password crosses the network in clear; mqtts:// hides it"


def _idle(section: str, values: object, names: Iterable[str], beside: str) -> Iterator[str]:
    return (f"{section}.{name} has no effect with {section}.{beside}" for name in names if getattr(values, name))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return what was probably meant: the same key of another section, else one of its section that is spelt alike."""
    names = tuple(known)
    section, _, leaf = name.rpartition(".")
    for other in names:
        if other.rpartition(".")[2] == leaf:
            return other
    alike = {other.removeprefix(f"{section}."): other for other in names if other.startswith(section)}
    return next((alike[each] for each in get_close_matches(leaf, alike, n=1)), None)


def _keys_of(section: str) -> Iterator[tuple[str, str]]:
    """Yield a section's keys, dotted and bare."""
    return ((dotted, dotted.rpartition(".")[2]) for dotted in KEYS if dotted.startswith(f"{section}."))


def _effective_line(dotted: str, name: str, loaded: Loaded) -> str:
    section = dotted.rpartition(".")[0]
    value = getattr(getattr(loaded.config, section) if section else loaded.config, name)
    key, source = KEYS[dotted], loaded.sources[dotted]
    means = f": {_MEANS[dotted]}" if dotted in _MEANS and value == key.default else ""
    if value is None and key.form.word is None:
        return f"{f'# {name} =':<48} # {source}: {key.absent}{means}"
    return f"{f'{name} = {forms.written(value, key.form.word)}':<48} # {source}{means}"


def _concealed(form: Form[Any], value: object) -> object:
    """Return a wrong value fit for an error line: short, and without what may be a secret."""
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, str):
        text = form.conceal(value)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no integer of more than 4300 digits
        return "…"
    return value if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _foreign(variable: str, text: str) -> bool:
    return bool(_OF_KUBERNETES.fullmatch(variable) or _LINK_OF_KUBERNETES.fullmatch(f"{variable}={text}"))


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
