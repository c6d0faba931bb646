"""The containers' logs: written to files, and read as the API server asks for them."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from .config import LOGS
from .moments import moment, now

_LIMIT = 64 << 20  # bytes of a log that are kept
_CHUNK = 1 << 16
_SECOND = len("2006-01-02T15:04:05")


def log_path(namespace: str, pod: str, uid: str, container: str, restart: int) -> Path:
    """The file of one run of a container."""
    return LOGS / "pods" / f"{namespace}_{pod}_{uid}" / f"{container}.{restart}.log"


async def pump(stream: asyncio.StreamReader, path: Path) -> None:
    """Copy a process's output to its log, each line with its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = b""
    with path.open("wb", buffering=0) as output:
        while chunk := await stream.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            stamp = now(precise=True).encode() + b" "
            if lines and output.tell() < _LIMIT:
                output.write(b"".join(stamp + line + b"\n" for line in lines))
        if rest:
            output.write(now(precise=True).encode() + b" " + rest + b"\n")


async def read(path: Path, query: Mapping[str, str], over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """A log as a query of the kubelet's API asks for it; followed, if it does so, until `over`."""
    since = query.get("sinceTime", "")
    if seconds := query.get("sinceSeconds"):
        since = moment(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=int(seconds)))
    stamps = query.get("timestamps") == "true"

    def select(lines: list[bytes]) -> bytes:
        kept = [line for line in lines if line[:_SECOND].decode() >= since[:_SECOND]]
        return b"".join(line if stamps else line.partition(b" ")[2] for line in kept)

    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    lines = content[:end].splitlines(keepends=True)
    if "tailLines" in query:
        lines = lines[max(len(lines) - int(query["tailLines"]), 0) :]
    yield select(lines)[: int(query["limitBytes"]) if "limitBytes" in query else None]
    while query.get("follow") == "true":
        last = over()
        more = _from(path, end)
        end += len(more)
        if more:
            yield select(more.splitlines(keepends=True))
        if last:
            return
        await asyncio.sleep(0.25)


def _from(path: Path, start: int) -> bytes:
    """The whole lines from a byte on."""
    if not path.exists():
        return b""
    with path.open("rb") as stream:
        stream.seek(start)
        more = stream.read()
    return more[: more.rfind(b"\n") + 1]
