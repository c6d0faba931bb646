"""The namespaces that hold a whole cluster: network, mounts and processes.

Their first process, the keeper (`python -m minikluster.namespaces`), does nothing else. When it ends, the kernel ends
every other process in them, and links, routes, tables and mounts go with them.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import net
from .config import LOGS, MARK, PODS, STATE

_KINDS = {"net": 0x40000000, "mnt": 0x00020000, "pid": 0x20000000}  # CLONE_NEWNET and so on, setns(2)


class NoClusterError(RuntimeError):
    """There is no cluster to enter."""

    def __init__(self) -> None:
        super().__init__("no cluster is up")


def keeper(state: Path = STATE) -> int | None:
    """Process id of the keeper, as the host numbers it; None where no cluster is up."""
    try:
        pid = int((state / "keeper.pid").read_text())
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"{MARK}={state}:keeper".encode() in environ else None


def enter(*kinds: str, state: Path = STATE) -> None:
    """Take this thread into namespaces of the cluster: net, mnt, pid (there, only the children that it starts)."""
    pid = keeper(state)
    if pid is None:
        raise NoClusterError
    paths = [(f"/proc/{pid}/ns/{kind}", kind) for kind in kinds]
    files = [(os.open(path, os.O_RDONLY), kind) for path, kind in paths]
    for file, kind in files:
        _set(file, kind)
        os.close(file)


@contextmanager
def inside(state: Path) -> Iterator[None]:
    """Have this thread, and those that it starts, in the cluster's network."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter("net", state=state)
        yield
    finally:
        _set(home, "net")
        os.close(home)


def _set(file: int, kind: str) -> None:
    """Python has os.setns from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(file, _KINDS[kind]):
        raise OSError(ctypes.get_errno(), f"setns {kind}")


def create(owner: int | None) -> None:
    """Make the namespaces; they end with the process `owner` if there is one, else with `destroy`."""
    watched = [os.pidfd_open(owner)] if owner else []
    with (LOGS / "keeper.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
             sys.executable, "-m", "minikluster.namespaces", *map(str, watched)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True, pass_fds=watched,
            cwd="/", env={**os.environ, MARK: f"{STATE}:keeper", "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit(f"minikluster: no namespaces; see {LOGS}/keeper.log")
    (STATE / "keeper.pid").write_text(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def destroy() -> None:
    """End the keeper, and so everything in the namespaces."""
    while pid := keeper():
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    (STATE / "keeper.pid").unlink(missing_ok=True)


def main() -> None:
    """Be the keeper: prepare the namespaces, say so, and stay until the owner ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps what the components leave
    # /run: `ip netns` keeps its names there. The pods' folder: overlayfs wants the containers' writable layers on
    # another file system than the root's.
    for folder in ("/run", str(PODS)):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "minikluster", folder], check=True)
    net.up()
    os.write(1, b"ready\n")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    select.select([int(number) for number in sys.argv[1:]], [], [])


if __name__ == "__main__":
    main()
