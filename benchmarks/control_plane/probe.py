"""A server to lead to, and a client that waits for an answer."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Seconds between two requests while an answer is waited for.
_STEP = 0.002
_PATIENCE = 300.0

Wanted = Callable[[int, Mapping[str, str]], bool]
"""Whether an answer, by its status and its headers in lower case, is the one that is waited for."""


class Probe:
    """Asks one gateway over one connection."""

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def until(self, host: str, path: str, wanted: Wanted, check: Callable[[], None]) -> float:
        """Wait for an answer; return the time (monotonic) at which it came.

        `check` is to raise when there is no hope left. RuntimeError after five minutes.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            status, headers = self.ask(host, path)
            now = time.monotonic()
            if wanted(status, headers):
                return now
            check()
            if now > deadline:
                raise RuntimeError(f"{host}{path} still answers {status} after {_PATIENCE:.0f} s")
            time.sleep(_STEP)

    def ask(self, host: str, path: str) -> tuple[int, Mapping[str, str]]:
        """Return status and headers of an answer; 0 where there is none."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._address, self._port, timeout=10)
            self._connection.request("GET", path, headers={"host": host})
            answer = self._connection.getresponse()
            answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}
        except (OSError, http.client.HTTPException):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return 0, {}


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def server(address: str) -> Iterator[int]:
    """Serve empty answers; gives the port."""
    with ThreadingHTTPServer((address, 0), _Server) as serving:
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        try:
            yield serving.server_address[1]
        finally:
            serving.shutdown()
            with suppress(RuntimeError):
                thread.join(5)
