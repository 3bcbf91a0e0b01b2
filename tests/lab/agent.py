"""portwatch itself, as it runs on one hypervisor: configured by its environment, asked over HTTP."""

import http.client
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.hypervisor import Hypervisor
from tests.lab.processes import Children, Process

COMMAND = (sys.executable, "-m", "portwatch", "run")
HTTP_LISTEN = "127.0.0.1:9476"
HTTP_SECONDS = 5.0
READY_SECONDS = 20.0


class Agent:
    """One `portwatch run`. `stop` (SIGTERM) and `kill` return its exit status."""

    def __init__(
        self,
        children: Children,
        hypervisor: Hypervisor,
        bus_url: str,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """*environment* goes on top of what the lab sets; an empty value is set as such."""
        self.hypervisor = hypervisor
        settings = {
            "PORTWATCH_HOST": hypervisor.name,
            "PORTWATCH_OVSDB__REMOTE": f"unix:{hypervisor.db}",
            "PORTWATCH_OPENFLOW__RUNDIR": str(hypervisor.rundir),
            "PORTWATCH_BRIDGES__DATAPATH_TYPE": "netdev",
            "PORTWATCH_TUNNEL__LOCAL_IP": hypervisor.ip,
            "PORTWATCH_BUS__URL": bus_url,
            "PORTWATCH_HTTP__LISTEN": HTTP_LISTEN,
            "PORTWATCH_LOG__LEVEL": "debug",
        }
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PORTWATCH_")}
        self.environment = ours | settings | dict(environment or {})
        self._http_host, _, self._http_port = self.environment["PORTWATCH_HTTP__LISTEN"].rpartition(":")
        # Not `ip netns exec`: it mounts /sys anew, and in a chroot `/` is no mount point. It keeps the pid.
        self.process = Process(
            children,
            children.unique(f"{hypervisor.name}-portwatch"),
            ["nsenter", f"--net=/run/netns/{hypervisor.namespace.name}", *command],
            environment=self.environment,
        )
        self.start = self.process.start
        self.stop = self.process.stop
        self.kill = self.process.kill
        self.pause = self.process.pause
        self.resume = self.process.resume
        self.restart = self.process.restart

    def log_lines(self) -> list[str]:
        """Return its standard error, line by line."""
        return self.process.errors.all()

    def log_records(self) -> list[dict[str, Any]]:
        """Return the log lines that are JSON objects."""
        return [json.loads(line) for line in self.log_lines() if line.startswith("{")]

    def http_get(self, path: str, timeout: float = HTTP_SECONDS) -> tuple[int, str]:
        """Return status and body of a GET, asked on the hypervisor itself; OSError when nobody listens."""

        def get() -> tuple[int, str]:
            connection = self._connection(timeout)
            try:
                connection.request("GET", path, headers=self._credentials)
                response = connection.getresponse()
                return response.status, response.read().decode(errors="replace")
            finally:
                connection.close()

        return self.hypervisor.namespace.inside(get)

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        place = (self._http_host, int(self._http_port))
        if "PORTWATCH_HTTP__CERTIFICATE" not in self.environment:
            return http.client.HTTPConnection(*place, timeout=timeout)
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # whom we ask is beside the point here
        return http.client.HTTPSConnection(*place, timeout=timeout, context=trusting)

    @property
    def _credentials(self) -> dict[str, str]:
        token = self.environment.get("PORTWATCH_HTTP__TOKEN_FILE")
        return {"Authorization": f"Bearer {Path(token).read_text().strip()}"} if token else {}

    def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until /readyz says 200; an error tells what it said last. Its end ends the waiting."""
        last = "nothing listens yet"

        def ready() -> bool:
            nonlocal last
            try:
                status, last = self.http_get("/readyz")
            except (OSError, http.client.HTTPException) as error:
                last = f"{type(error).__name__}: {error}"
                return False
            return status == http.HTTPStatus.OK

        self.process.until(ready, timeout, lambda: f"/readyz says 200; it said: {last}")
