"""A headless Chromium that tests look at the page with, spoken to over WebDriver (W3C) by chromedriver.

No Selenium: what is needed of it is one JSON request a command.
"""

import base64
import http.client
import json
import os
import platform
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

COMMAND_SECONDS: Final = 30.0
NOT_HERE: Final = platform.freedesktop_os_release()["ID"] == "ubuntu"
"""Is this a system that .ci/setup gives no browser? A browser that is missing anywhere else is an error."""
ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
KEYS: Final = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Escape": "\ue00c", "Shift": "\ue008"}
FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # its sandbox refuses root, and the lab needs root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1280,900",
)


class BrowserError(Exception):
    """What WebDriver answers in place of a value."""


class Browser:
    """One window. *inside* does a piece of work where the browser lives: in its network namespace."""

    def __init__(self, port: int, profile: Path, inside: Callable[[Callable[[], Any]], Any]) -> None:
        self._port, self._inside, self._session = port, inside, ""
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": "/usr/bin/chromium"}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{answer['sessionId']}"

    def open(self, url: str) -> None:
        """Go to a page, and return when it is loaded."""
        self._send("POST", f"{self._session}/url", {"url": url})

    def script(self, code: str, *arguments: Any) -> Any:
        """Return what a function of this body returns; a promise is waited for."""
        return self._send("POST", f"{self._session}/execute/sync", {"script": code, "args": list(arguments)})

    def text(self, selector: str = "body") -> str:
        """Return the text of the first such element, as it is shown; nothing when there is none."""
        return str(self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        """Click on the first such element, as a mouse does: it must be visible and uncovered."""
        self._send("POST", f"{self._session}/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._send("POST", f"{self._session}/element/{self._find(selector)}/value", {"text": text})

    def press(self, *keys: str) -> None:
        """Press keys together, and let them go: `Tab`, or `Shift` and `Tab`."""
        values = [KEYS.get(key, key) for key in keys]
        steps = [{"type": "keyDown", "value": value} for value in values]
        steps += [{"type": "keyUp", "value": value} for value in reversed(values)]
        actions = [{"type": "key", "id": "keyboard", "actions": steps}]
        self._send("POST", f"{self._session}/actions", {"actions": actions})

    def resize(self, width: int, height: int) -> None:
        """Let the page have this many pixels, as on a device of that size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < height}
        self._devtools("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Let the reader prefer `light` or `dark`."""
        self._devtools("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def picture(self) -> bytes:
        """Return what the window shows, as a PNG."""
        return base64.b64decode(self._send("GET", f"{self._session}/screenshot"))

    def complaints(self) -> list[str]:
        """Return what the browser has complained of since the last time: errors, and what the page's policy forbids."""
        entries = self._send("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def quit(self) -> None:
        self._send("DELETE", self._session)

    def _find(self, selector: str) -> str:
        found = self._send("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    def _devtools(self, command: str, parameters: Mapping[str, Any]) -> None:
        self._send("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        def ask() -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=COMMAND_SECONDS)
            try:
                connection.request(method, path, None if body is None else json.dumps(body))
                return json.loads(connection.getresponse().read())["value"]
            finally:
                connection.close()

        value = self._inside(ask)
        if isinstance(value, dict) and "error" in value:
            raise BrowserError(f"{method} {path}: {value['error']}: {value['message']}")
        return value


def _here(work: Callable[[], T]) -> T:
    return work()


@contextmanager
def browser(
    folder: Path, prefix: Sequence[str] = (), inside: Callable[[Callable[[], Any]], Any] = _here
) -> Iterator[Browser]:
    """Start a browser whose profile lies in *folder*; *prefix* starts a command elsewhere, *inside* works there."""
    command = [*prefix, "setpriv", "--pdeathsig", "KILL", "--", "chromedriver", "--port=0"]
    environment = os.environ | {"HOME": str(folder), "TMPDIR": str(folder)}
    # A session of its own: what the browser leaves running is ended with it.
    driver = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        assert driver.stdout is not None
        started = (re.search(rb"started successfully on port (\d+)", line) for line in driver.stdout)
        port = next((int(match[1]) for match in started if match), None)
        if port is None:
            raise BrowserError(f"{command} has not started")
        window = Browser(port, folder / "profile", inside)
        yield window
        window.quit()
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        if driver.stdout is not None:
            driver.stdout.close()
