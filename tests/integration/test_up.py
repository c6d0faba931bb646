"""`pointsman up` as its user runs it: how it starts, what it says, and what is left when it ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "model-routing"
COMMAND = (sys.executable, "-P", "-m", "pointsman", "up")


class Up:
    """A running `pointsman up` and what it has printed; its runtime directory is inside `temporary`."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.temporary = temporary
        self.printed: list[str] = []
        temporary.mkdir()
        self.process = subprocess.Popen(
            [*COMMAND, str(folder), "--simulate", "--concurrency", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )

    def read_until(self, text: str) -> str:
        """Read what is printed until a line has `text` in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            if text in line:
                return line
        raise AssertionError(f"ended without {text!r}: {self.printed}")

    def children(self) -> list[int]:
        """The process ids of all children."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def child(self, command: str) -> int:
        """The process id of the child whose command line has `command` in it."""
        found = [pid for pid in self.children() if f"\0{command}\0" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(found) == 1
        return found[0]


@pytest.fixture
def port(tmp_path: Path) -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    shutil.copytree(EXAMPLE, tmp_path / "folder")
    gateway = tmp_path / "folder" / "gateway.yaml"
    gateway.write_text(gateway.read_text().replace("port: 8080", f"port: {number}"))
    return number


@contextmanager
def running(tmp_path: Path) -> Iterator[Up]:
    # Short, for the sockets inside.
    temporary = Path(f"/tmp/pm-{os.getpid()}-{time.monotonic_ns() % 10**6}")  # noqa: S108 - made, and failing if it exists
    up = Up(tmp_path / "folder", temporary)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()
        if up.process.stdout is not None:
            up.process.stdout.close()
        shutil.rmtree(temporary, ignore_errors=True)


def await_nothing_left(up: Up, pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        alive = [pid for pid in pids if _is_alive(pid)]
        left = list(up.temporary.iterdir())
        if not alive and not left:
            return
        time.sleep(0.02)
    raise AssertionError(f"left behind: processes {alive}, files {left}")


def _is_alive(pid: int) -> bool:
    try:
        # A zombie has ended: that nobody reaps it is not our doing.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_says_where_the_gateway_is_and_leaves_nothing_behind(
    port: int, tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path) as up:
        up.read_until("Ctrl-C ends it")
        printed = "".join(up.printed)
        assert f"listener llm-gw: http://127.0.0.1:{port}\n" in printed
        assert "pool default/qwen-pool: models qwen\n" in printed
        assert f"curl http://127.0.0.1:{port}/v1/chat/completions" in printed
        (command,) = (line.partition("or: ")[2].split() for line in up.printed if line.startswith("status "))
        done = subprocess.run([*COMMAND[:-1], *command[1:], "--json"], capture_output=True, check=True)
        assert {each["node"]: each["in_sync"] for each in json.loads(done.stdout)["proxies"]} == {
            "envoy": True,
            "picker": True,
        }
        end(up, number)


def end(up: Up, number: signal.Signals) -> None:
    pids = up.children()
    assert len(pids) == 5  # the guard, the simulator, the control plane, the picker, Envoy
    up.process.send_signal(number)
    assert up.process.wait(timeout=30) == (-9 if number == signal.SIGKILL else 0)
    await_nothing_left(up, pids)


def test_what_happens_meanwhile_is_said(port: int, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with running(tmp_path) as up:
        up.read_until("Ctrl-C ends it")
        broken = folder / "broken.yaml"
        broken.write_text("kind: HTTPRoute\n  spec: [")
        assert f"problem: {broken}:2: " in up.read_until("problem:")
        broken.unlink()
        assert f"solved: {broken}:2: " in up.read_until("solved:")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
            assert answer.status == 200
        # A child that dies is restarted.
        for name in ("simulate", "control-plane"):
            os.kill(up.child(name), signal.SIGKILL)
        said = {up.read_until("restarted in").strip() for _ in range(2)}
        assert said == {f"{name} ended (signal 9), restarted in 0.1 s" for name in ("simulator", "control-plane")}
        # Changes flow again.
        gateway = folder / "gateway.yaml"
        gateway.write_text(gateway.read_text().replace("name: llm-gw", "name: other"))
        said = {up.read_until("listener ") for _ in range(2)}
        line = f"Gateway default/inference-gateway: listener {{}}: http://127.0.0.1:{port}\n"
        assert said == {"gone: " + line.format("llm-gw"), "new: " + line.format("other")}
        end(up, signal.SIGTERM)


def test_a_port_that_is_taken_names_gateway_and_listener(port: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run([*COMMAND, str(tmp_path / "folder")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"pointsman: Gateway default/inference-gateway: listener llm-gw: port {port} on 127.0.0.1 is already taken\n"
    )
