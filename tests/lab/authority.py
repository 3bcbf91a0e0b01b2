"""Certificates for the lab's bus, made by deploy/authority, as an operator makes them."""

import os
from pathlib import Path

from tests.lab import shell

DEPLOY = Path(__file__).parents[2] / "deploy"


class Authority:
    """A folder of certificates by two authorities: for hosts and the broker, and for readers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run("init")

    @property
    def ca(self) -> Path:
        """Whom hosts and readers trust: the authority that signed the broker's certificate."""
        return self.folder / "hosts-ca.pem"

    def broker(self, name: str, *addresses: str) -> Path:
        return self._made("broker", "broker", name, *addresses)

    def host(self, name: str, **dates: str) -> Path:
        """Make a host's certificate, or renew it; `STARTS` and `ENDS`, as openssl's, make it valid another time."""
        return self._made(name, "host", name, **dates)

    def reader(self, name: str) -> Path:
        return self._made(name, "reader", name)

    def revoke(self, name: str) -> None:
        self._run("revoke", name)

    def settings(self, certificate: Path) -> dict[str, str]:
        """Return what portwatch needs to use *certificate* on the bus."""
        return {
            "PORTWATCH_BUS__CA_CERT": str(self.ca),
            "PORTWATCH_BUS__CERTIFICATE": str(certificate),
            "PORTWATCH_BUS__PRIVATE_KEY": str(certificate.with_suffix(".key")),
        }

    def options(self, certificate: Path) -> tuple[str, ...]:
        """Return what mosquitto's clients need to use *certificate*."""
        files = {"--cafile": self.ca, "--cert": certificate, "--key": certificate.with_suffix(".key")}
        return tuple(str(word) for pair in files.items() for word in pair)

    def _made(self, file: str, *arguments: str, **dates: str) -> Path:
        self._run(*arguments, **dates)
        return self.folder / f"{file}.pem"

    def _run(self, *arguments: str, **environment: str) -> None:
        shell.run(str(DEPLOY / "authority"), str(self.folder), *arguments, environment=os.environ | environment)
