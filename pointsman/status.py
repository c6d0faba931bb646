"""`pointsman status`: asks a running control plane how everything stands, and shows it."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import orjson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pointsman.bootstrap import address as parsed
from pointsman.failure import Failure
from pointsman.standing import Json, standing

_PATIENCE = 15.0  # seconds; a large /status takes a second or two to be written
# Where there is no terminal, lines are as long as they are.
_UNBOUNDED = 10_000
_FINE = Text("ok", style="green")


async def ask(address: str) -> Json:
    """Return how the control plane at "host:port", "unix:/path" or "http://host:port/..." stands.

    Failure, naming the address, where nobody answers or the answer is another program's.
    """
    place = address.removeprefix("http://").partition("/")[0] if address.startswith("http://") else address
    try:
        parsed(place)
    except ValueError as error:
        raise Failure(str(error)) from None
    path = place.removeprefix("unix:")
    connector = aiohttp.UnixConnector(path) if path != place else aiohttp.TCPConnector()
    url = f"http://{'control-plane' if path != place else place}/status"
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as session,
            session.get(url) as answer,
        ):
            body = await answer.read()
            if not answer.ok:
                raise Failure(f"{address}: answers {answer.status}, so it is no control plane's --admin address")
        return standing(orjson.loads(body))
    except TimeoutError:
        raise Failure(f"{address}: no answer within {_PATIENCE:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Failure(f"{address}: no control plane answers there: {error}") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise Failure(f"{address}: what answers there is no control plane") from None


def show(found: Json, console: Console | None = None) -> None:
    """Print it as tables."""
    width = None if sys.stdout.isatty() else _UNBOUNDED
    console = console or Console(width=width, highlight=False, emoji=False, markup=False)
    console.print(Group(*_tables(found)))


def _tables(found: Json) -> Iterator[RenderableType]:
    yield from _table("gateway", ("listener", "url", "hostnames", "routes", "models", "state"), _gateways(found))
    yield from _table("route", ("kind", "gateway", "state"), _routes(found))
    yield from _table("pool", ("models", "ready pods", "gateways", "state"), _pools(found))
    yield from _table("proxy", ("role", "serves", "holds", "state"), _proxies(found))
    yield from (Text(f"problem: {line}", style="red") for line in found["problems"])
    yield from (Text(f"note: {line}", style="yellow") for line in found["notices"])


def _table(first: str, others: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Iterator[RenderableType]:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (first, *others):
        table.add_column(name.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    if table.row_count:
        yield table
    else:
        yield Text(f"no {first}", style="yellow")
    yield Text()


def _gateways(found: Json) -> Iterator[Sequence[str | Text]]:
    for gateway in found["gateways"]:
        models = ", ".join(gateway["models"])
        listeners = gateway["listeners"] or [{"name": "", "url": None, "hostnames": [], "attached_routes": 0}]
        for listener in listeners:
            state = _state([*gateway["troubles"], *listener.get("troubles", ())])
            hostnames = ", ".join(listener["hostnames"]) or "*"
            routes = str(listener["attached_routes"])
            yield gateway["name"], listener["name"], listener["url"] or "", hostnames, routes, models, state


def _routes(found: Json) -> Iterator[Sequence[str | Text]]:
    for route in found["routes"]:
        if not route["parents"]:
            yield route["name"], route["kind"], "", Text("no Gateway of ours", style="yellow")
        for parent in route["parents"]:
            yield route["name"], route["kind"], parent["gateway"], _state(parent["troubles"])


def _pools(found: Json) -> Iterator[Sequence[str | Text]]:
    for pool in found["pools"]:
        state = _state(pool["troubles"])
        if not pool["gateways"]:
            state = Text("no route leads to it", style="yellow")
        yield pool["name"], ", ".join(pool["models"]), str(len(pool["pods"])), ", ".join(pool["gateways"]), state


def _proxies(found: Json) -> Iterator[Sequence[str | Text]]:
    for proxy in found["proxies"]:
        holds = ", ".join(f"{each['held']} {name}" for name, each in proxy["types"].items())
        yield proxy["node"], proxy["role"], proxy["group"], holds, _answers(proxy)


def _answers(proxy: Mapping[str, Any]) -> Text:
    """Say what the proxy has answered to what it was sent."""
    refused = [
        f"refuses {name} {each['name']} ({each['object']}): {each['message']}"
        for name, kept in proxy["types"].items()
        for each in kept["refused"]
    ]
    if refused:
        return Text("\n".join(refused), style="red")
    if proxy["in_sync"]:
        return Text("all accepted", style="green")
    behind = [
        f"{each['pending']} {name} to come" if each["pending"] else f"{name} not answered yet"
        for name, each in proxy["types"].items()
        if each["pending"] or each["waiting"]
    ]
    return Text(", ".join(behind) or "not asked for all yet", style="yellow")


def _state(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines), style="red") if lines else _FINE
