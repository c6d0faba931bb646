"""First process of a container: `python3 -IS launch.py SPEC`.

It starts in fresh mount, pid, uts and ipc namespaces and in the pod's network namespace, builds the root file system (a
copy-on-write view of the machine's, plus the volumes) and runs the container's command. Standard library only.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MNT_DETACH = 1, 32, 4096, 16384, 2
_KINDS = {"ext4", "xfs", "btrfs", "tmpfs", "overlay", "9p", "virtiofs"}
_HIDDEN = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp")  # noqa: S108 - the container has its own
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: str | int | None) -> None:
    if getattr(_libc, name)(*[arg.encode() if isinstance(arg, str) else arg for arg in args]):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}{args}: {os.strerror(error)}")


def bind(source: str, target: Path, *, readonly: bool = False) -> None:
    """Show a file or a folder in another place."""
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(target):
            target.touch()
    _call("mount", source, str(target), None, MS_BIND | MS_REC, None)
    if readonly:
        _call("mount", None, str(target), None, MS_BIND | MS_REMOUNT | MS_RDONLY, None)


def other_mounts(state: str) -> Iterator[str]:
    """Folders where further file systems of the machine are mounted, which the overlay does not show."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        point, kind = fields[4], fields[fields.index("-") + 1]
        hidden = any(point == each or point.startswith(f"{each}/") for each in (*_HIDDEN, state))
        if kind in _KINDS and point != "/" and not hidden and Path(point).is_dir():
            yield point


def devices(dev: Path) -> None:
    """Make /dev."""
    _call("mount", "tmpfs", str(dev), "tmpfs", 0, "mode=755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        bind(f"/dev/{name}", dev / name)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    _call("mount", "devpts", str(dev / "pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    _call("mount", "tmpfs", str(dev / "shm"), "tmpfs", 0, "mode=1777")
    (dev / "ptmx").symlink_to("pts/ptmx")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")
    (dev / "fd").symlink_to("/proc/self/fd")


def supervise(argv: list[str], env: dict[str, str]) -> NoReturn:
    """Run the command as a child and end as it does.

    As a child it gets signals as any process does; from number 1 the kernel keeps those that it does not handle.
    """
    child = os.fork()
    if child == 0:
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGINT):  # as Python found them
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvpe(argv[0], argv, env)
        except OSError as error:
            print(f"minikluster: cannot start {argv[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def end(_: int, __: FrameType | None) -> NoReturn:
    """End by SIGTERM, which number 1 would ignore by default."""
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    """Become the container."""
    signal.signal(signal.SIGTERM, end)
    spec = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(spec["folder"])
    root = folder / "root"
    socket.sethostname(spec["hostname"])
    layers = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
    _call("mount", "overlay", str(root), "overlay", 0, layers)
    for point in other_mounts(spec["state"]):
        with suppress(OSError):
            bind(point, root / point[1:], readonly=True)
    devices(root / "dev")
    (root / ".host").mkdir(exist_ok=True)
    os.chdir(root)
    _call("pivot_root", ".", ".host")
    os.chdir("/")
    _call("mount", "proc", "/proc", "proc", 0, None)
    _call("mount", "/.host/sys", "/sys", None, MS_BIND | MS_REC, None)
    for source, target, readonly in spec["mounts"]:  # symbolic links now resolve in the container
        bind("/.host" + source, Path(target), readonly=readonly)
    _call("umount2", "/.host", MNT_DETACH)
    Path("/.host").rmdir()
    Path(spec["cwd"]).mkdir(parents=True, exist_ok=True)
    os.chdir(spec["cwd"])
    supervise(spec["argv"], spec["env"])


if __name__ == "__main__":
    main()
