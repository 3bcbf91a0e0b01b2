"""A real Prometheus in the lab: scrapes the agents, and says which alerts fire. Four times a second, not a minute."""

import http.client
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.lab.failures import LabError
from tests.lab.namespaces import Namespace
from tests.lab.processes import Children, Process

PORT = 9090
START_SECONDS = 20.0
ANSWER_SECONDS = 5.0
EVERY = "250ms"
WAITS = "1s"
LOOKS_BACK = "4s"
"""What the rules' minutes become here."""


class Prometheus:
    """Started by `start`. *rules* are copied with their times cut down."""

    def __init__(
        self,
        children: Children,
        namespace: Namespace,
        rules: Path,
        targets: Iterable[str],
        ca: Path,
        token_file: Path,
    ) -> None:
        self._namespace = namespace
        folder = children.directory / "prometheus"
        folder.mkdir()
        text = re.sub(r"for: \d+m", f"for: {WAITS}", rules.read_text())
        (folder / "rules.yml").write_text(re.sub(r"\[\d+m\]", f"[{LOOKS_BACK}]", text))
        configuration = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "portwatch",
                    "scheme": "https",
                    "tls_config": {"ca_file": str(ca)},
                    "authorization": {"credentials_file": str(token_file)},
                    "static_configs": [{"targets": list(targets)}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # YAML, too
        self.process = Process(
            children,
            "prometheus",
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{PORT}",
                "--log.level=warn",
            ],
            namespace=namespace,
            ready=lambda process: process.until(self._is_ready, START_SECONDS, "is ready"),
        )
        self.start = self.process.start

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self._ask("alerts")["alerts"] if alert["state"] == "firing"}

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that a query gives now."""
        series: list[dict[str, Any]] = self._ask(f"query?{urlencode({'query': expression})}")["result"]
        return series

    def _ask(self, question: str) -> Any:
        status, body = self._get(f"/api/v1/{question}")
        answer = json.loads(body)
        if answer["status"] != "success":
            raise LabError(f"Prometheus answers {status} to {question}: {answer['error']}")
        return answer["data"]

    def _is_ready(self) -> bool:
        try:
            return self._get("/-/ready")[0] == http.client.OK
        except OSError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        def get() -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=ANSWER_SECONDS)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read()
            finally:
                connection.close()

        return self._namespace.inside(get)
