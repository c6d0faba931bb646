"""Secrets are read one by one: those that listeners of ours name, and may, and no others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import pair
from small_api_server import SmallApiServer, served

from pointsman.interests import interests
from resources import (
    Gateway,
    GatewayClass,
    HTTPRoute,
    Key,
    ReferenceGrant,
    Secret,
    UnreadableSecret,
    Upsert,
    World,
)
from sources import Reading
from sources.kubernetes import Interest, KubernetesSource, by_name

API = "gateway.networking.k8s.io/v1"
NAME = "example.com/ours"
KINDS = (GatewayClass, Gateway, HTTPRoute, ReferenceGrant, Secret)
INTERESTS = [each for each in interests(frozenset({NAME})) if each.kind in KINDS]
CLASSES = [
    {
        "apiVersion": API,
        "kind": "GatewayClass",
        "metadata": {"name": name, "namespace": ""},
        "spec": {"controllerName": of},
    }
    for name, of in (("ours", NAME), ("theirs", "example.com/theirs"))
]
GRANT = {
    "apiVersion": API,
    "kind": "ReferenceGrant",
    "metadata": {"name": "grant", "namespace": "vault"},
    "spec": {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}],
        "to": [{"group": "", "kind": "Secret", "name": "granted"}],
    },
}
A, B = ("default", "a"), ("default", "b")
GRANTED = ("vault", "granted")


def gateway(*refs: str, name: str = "gw", of: str = "ours") -> Mapping[str, Any]:
    """A Gateway of the default namespace whose listener names Secrets, "name" or "namespace/name"."""
    parts = [each.rpartition("/") for each in refs]
    named = [{"name": ref, **({"namespace": space} if space else {})} for space, _, ref in parts]
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": named}}
    if not refs:
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    spec = {"gatewayClassName": of, "listeners": [listener]}
    return {"apiVersion": API, "kind": "Gateway", "metadata": {"name": name}, "spec": spec}


def secret(name: str, namespace: str = "default", serial: int = 1) -> Mapping[str, Any]:
    return pair(name, serial=serial).secret(name, namespace)


def chain_of(name: str, serial: int = 1) -> bytes:
    return pair(name, serial=serial).chain


class Watching:
    """What a source has told."""

    def __init__(self, source: KubernetesSource) -> None:
        self.world = World()
        self.readings: list[Reading] = []
        self._source = source
        self._more = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        async for reading in self._source.watch(stop):
            self.readings.append(reading)
            self.world = self.world.apply(reading.changes)
            self._more.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what was told."""
        async with asyncio.timeout(60):
            while not holds():
                self._more.clear()
                await self._more.wait()

    @property
    def secrets(self) -> Mapping[tuple[str, str], Secret]:
        return self.world.all(Secret)

    def chain(self, name: tuple[str, str]) -> bytes:
        """The certificate of a Secret, as far as it is known."""
        found = self.secrets.get(name)
        return found.data.get("tls.crt", b"") if found is not None else b""

    def told_with(self, kind: type[Gateway | Secret]) -> set[Key]:
        """What else the last reading had that told of a kind."""
        keys = [[_key(each) for each in reading.changes] for reading in self.readings]
        return set(next(found for found in reversed(keys) if any(key.kind == kind.KIND for key in found)))


def _key(change: object) -> Key:
    found: Key = change.object.key if isinstance(change, Upsert) else change.key  # type: ignore[attr-defined]
    return found


@asynccontextmanager
async def watching(server: SmallApiServer, folder: Path) -> AsyncIterator[Watching]:
    async with served(server, folder) as api:
        found = Watching(KubernetesSource(api, INTERESTS, dice=lambda: 0.5))
        stop = asyncio.Event()
        task = asyncio.create_task(found.run(stop))
        try:
            yield found
        finally:
            stop.set()
            await task


@pytest.fixture
def server() -> SmallApiServer:
    server = SmallApiServer()
    server.apply(*CLASSES)
    return server


async def test_what_is_named_is_read_and_nothing_else(server: SmallApiServer, tmp_path: Path) -> None:
    server.apply(secret("a"), secret("b"), secret("granted", "vault"), secret("other", "vault"))
    server.apply(gateway("a", "vault/granted", "vault/other"), gateway("b", name="not-ours", of="theirs"), GRANT)
    async with watching(server, tmp_path) as told:
        # What is named is there from the start.
        await told.until(lambda: bool(told.readings))
        assert set(told.secrets) == {A, GRANTED}
        # Another listener makes another one wanted, and a withdrawn grant one fewer.
        server.apply(gateway("b", name="second"))
        await told.until(lambda: set(told.secrets) == {A, GRANTED, B})
        server.delete(GRANT)
        await told.until(lambda: set(told.secrets) == {A, B})
        assert Key("gateway.networking.k8s.io", "ReferenceGrant", "vault", "grant") in told.told_with(Secret)
        server.delete(gateway("b", name="second"))
        await told.until(lambda: set(told.secrets) == {A})
        server.apply(GRANT)
        await told.until(lambda: set(told.secrets) == {A, GRANTED})
    assert set(server.asked) == {A, B, GRANTED}


async def test_it_comes_late_and_is_rotated_and_deleted(server: SmallApiServer, tmp_path: Path) -> None:
    server.apply(gateway("a"))
    async with watching(server, tmp_path) as told:
        # One that is not there holds nothing up.
        await told.until(lambda: bool(told.readings))
        assert not told.secrets
        server.apply(secret("a"))
        await told.until(lambda: told.chain(A) == chain_of("a"))
        server.apply(secret("a", serial=2))
        await told.until(lambda: told.chain(A) == chain_of("a", serial=2))
        server.delete(secret("a"))
        await told.until(lambda: not told.secrets)
        server.apply(secret("a"))
        await told.until(lambda: told.chain(A) == chain_of("a"))
        # Nobody hears of it any more once no listener names it.
        server.apply(gateway())
        await told.until(lambda: not told.secrets)
        before = len(server.asked)
        server.cut()
        server.apply(secret("a", serial=2), gateway("b"), secret("b"))
        await told.until(lambda: told.chain(B) != b"")
        assert A not in server.asked[before:]


async def test_a_list_is_read_anew_where_the_server_has_forgotten(server: SmallApiServer, tmp_path: Path) -> None:
    server.apply(gateway("a", "b"), secret("a"), secret("b"))
    async with watching(server, tmp_path) as told:
        await told.until(lambda: set(told.secrets) == {A, B})
        server.delete(secret("b"))
        server.apply(secret("a", serial=2))
        server.forget_the_past()
        await told.until(lambda: told.chain(A) == chain_of("a", serial=2) and B not in told.secrets)
    lost = [each for reading in told.readings for each in reading.changes if not isinstance(each, Upsert)]
    assert {_key(each).name for each in lost} == {"b"}


@pytest.mark.parametrize("trouble", ["forbidden", "broken"])
async def test_one_that_cannot_be_read_holds_nothing_up(server: SmallApiServer, tmp_path: Path, trouble: str) -> None:
    getattr(server, trouble).add(A)
    server.apply(gateway("a", "b"), secret("a"), secret("b"))
    async with watching(server, tmp_path) as told:
        await told.until(lambda: bool(told.readings))
        found = told.secrets[A]
        assert isinstance(found, UnreadableSecret)
        reason = {"forbidden": 'secrets "a" is forbidden', "broken": "no key to decrypt it with"}[trouble]
        assert found.reason == reason
        (problem,) = told.readings[-1].problems
        assert str(problem) == f"Secret default/a: cannot be read: {reason}"
        assert told.chain(B) == chain_of("b")
        getattr(server, trouble).clear()
        await told.until(lambda: told.chain(A) == chain_of("a"))
        assert not told.readings[-1].problems
        # What was read stays when it can be read no longer.
        getattr(server, trouble).add(A)
        server.cut()
        await told.until(lambda: bool(told.readings[-1].problems))
        assert told.chain(A) == chain_of("a")


async def test_a_reference_is_told_with_what_it_refers_to(
    server: SmallApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_name, "_PATIENCE", 60.0)
    server.apply(gateway("a"), secret("a"), secret("b"))
    async with watching(server, tmp_path) as told:
        await told.until(lambda: A in told.secrets)
        server.blocked[B] = asyncio.Event()
        server.apply(gateway("b"))
        route = {"apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": "route"}, "spec": {}}
        async with asyncio.timeout(60):
            while B not in server.asked:
                await asyncio.sleep(0)
        # What has nothing to do with it is told meanwhile.
        server.apply(route)
        await told.until(lambda: bool(told.world.all(HTTPRoute)))
        assert set(told.secrets) == {A}
        server.blocked[B].set()
        await told.until(lambda: B in told.secrets)
        assert {each.name for each in told.told_with(Secret)} == {"gw", "a", "b"}
        assert set(told.secrets) == {B}


async def test_a_reference_does_not_wait_for_ever(
    server: SmallApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_name, "_PATIENCE", 0.1)
    server.blocked[B] = asyncio.Event()
    server.apply(gateway("a"), secret("a"), secret("b"))
    async with watching(server, tmp_path) as told:
        await told.until(lambda: A in told.secrets)
        server.apply(gateway("b"))
        await told.until(lambda: not told.secrets)
        assert {each.name for each in told.told_with(Gateway)} == {"gw", "a"}
        server.blocked[B].set()
        await told.until(lambda: B in told.secrets)


async def test_the_first_reading_waits_for_what_is_named(server: SmallApiServer, tmp_path: Path) -> None:
    server.blocked[A] = asyncio.Event()
    server.apply(gateway("a"), secret("a"))
    async with watching(server, tmp_path) as told:
        async with asyncio.timeout(60):
            while A not in server.asked:
                await asyncio.sleep(0)
        assert not told.readings
        server.blocked[A].set()
        await told.until(lambda: A in told.secrets)
        assert len(told.readings[0].changes) == len([*CLASSES, gateway("a"), secret("a")])


async def test_a_source_without_such_kinds_asks_for_no_secret(server: SmallApiServer, tmp_path: Path) -> None:
    server.apply(gateway("a"), secret("a"))
    stop = asyncio.Event()
    async with served(server, tmp_path) as api:
        source = KubernetesSource(api, [Interest(Gateway)], dice=lambda: 0.5)
        async for reading in source.watch(stop):
            assert len(reading.changes) == 1
            stop.set()
    assert not server.asked
