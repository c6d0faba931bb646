"""The syncer with the simulated vLLM, over sockets and files."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from lora_syncer import Settings, Syncer
from lora_syncer.metrics import Metrics, serve
from simulator import Mode, ModelServer

Start = Callable[..., Awaitable[ModelServer]]
PATIENCE = 10


class Folder:
    """A mounted ConfigMap, updated as the kubelet does: a link to a folder is swapped."""

    def __init__(self, path: Path) -> None:
        self.file = path / "configmap.yaml"
        self._path = path
        self._version = 0

    def write(self, text: str) -> None:
        self._version += 1
        version = self._path / f"..v{self._version}"
        version.mkdir()
        (version / "configmap.yaml").write_text(text)
        link = self._path / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self._path / "..data")
        if not self.file.is_symlink():
            self.file.symlink_to("..data/configmap.yaml")

    def want(self, server: ModelServer, wanted: Iterable[tuple[str, str]] = (), unwanted: Iterable[str] = ()) -> None:
        lora: dict[str, object] = {
            "host": server.site.host,
            "port": server.site.port,
            "ensureExist": {"models": [{"id": name, "source": source} for name, source in wanted]},
            "ensureNotExist": {"models": [{"id": name, "source": "-"} for name in unwanted]},
        }
        self.write(json.dumps({"vLLMLoRAConfig": lora}))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def syncer(folder: Folder, session: ClientSession, metrics: Metrics, every: float = 3600.0) -> Syncer:
    return Syncer(
        Settings(folder.file, health_check_interval=0.01, reconcile_trigger=every),
        session,
        metrics,
    )


async def adapters(session: ClientSession, server: ModelServer) -> dict[str, str]:
    async with session.get(server.site.url + "/v1/models") as response:
        return {card["id"]: card["root"] for card in (await response.json())["data"] if card["parent"]}


async def reach(session: ClientSession, server: ModelServer, wanted: dict[str, str]) -> None:
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := await adapters(session, server)) != wanted:
                await asyncio.sleep(0.005)
    except TimeoutError:
        assert found == wanted


@asynccontextmanager
async def running(syncer: Syncer) -> AsyncIterator[None]:
    task = asyncio.create_task(syncer.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_adapters_are_loaded_and_unloaded(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    folder.want(server, [("second", "org/second")], ["first", "never"])
    with capture_logs() as logs:
        assert await syncer(folder, session, metrics).reconcile()
    assert await adapters(session, server) == {"second": "org/second"}
    url = server.site.url
    actions = [{name: line[name] for name in line if name != "log_level"} for line in logs[1:]]
    assert actions == [
        {"event": "Adapter loaded", "adapter": "second", "server": url, "source": "org/second"},
        {"event": "Adapter unloaded", "adapter": "first", "server": url},
    ]
    shown = metrics.render().decode()
    assert 'lora_syncer_adapter_status{adapter_name="second"} 1.0' in shown
    assert 'lora_syncer_adapter_status{adapter_name="first"} 0.0' in shown
    assert 'lora_syncer_actions_total{action="load",outcome="done"} 1.0' in shown


async def test_a_second_pass_asks_for_nothing(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    folder.want(server, [("first", "/lora/first"), ("second", "/s")])
    it = syncer(folder, session, metrics)
    await it.reconcile()
    with capture_logs() as logs:
        await it.reconcile()
    assert logs == []


async def test_another_source_replaces_the_adapter(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    folder.want(server, [("first", "/lora/other")])
    await syncer(folder, session, metrics).reconcile()
    assert await adapters(session, server) == {"first": "/lora/other"}


async def test_the_file_is_followed(start: Start, session: ClientSession, folder: Folder, metrics: Metrics) -> None:
    server = await start()
    folder.want(server, [("a", "/a")])
    async with running(syncer(folder, session, metrics)):
        await reach(session, server, {"first": "/lora/first", "a": "/a"})
        folder.want(server, [("b", "/b")], ["a", "first"])
        await reach(session, server, {"b": "/b"})


async def test_what_others_change_is_put_right_in_time(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    folder.want(server, [("a", "/a")], ["first"])
    async with running(syncer(folder, session, metrics, every=0.02)):
        await reach(session, server, {"a": "/a"})
        await session.post(server.site.url + "/v1/unload_lora_adapter", json={"lora_name": "a"})
        await reach(session, server, {"a": "/a"})


async def test_a_server_that_is_not_there_yet_or_not_healthy_is_waited_for(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    await server.switch(Mode.REFUSE)
    folder.want(server, [("a", "/a")])
    with capture_logs() as logs:
        async with running(syncer(folder, session, metrics)):
            while not logs or logs[-1]["event"] != "Waiting for the model server":
                await asyncio.sleep(0.005)
            await server.switch(Mode.UNAVAILABLE)
            await asyncio.sleep(0.05)
            await server.switch(Mode.NONE)
            await reach(session, server, {"first": "/lora/first", "a": "/a"})
    assert [line["event"] for line in logs] == [
        "Configuration read",
        "Waiting for the model server",
        "Model server serves",
        "Adapter loaded",
    ]


async def test_a_server_that_does_not_become_healthy_is_an_error(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    await server.switch(Mode.UNAVAILABLE)
    folder.want(server)
    settings = Settings(folder.file, health_check_timeout=1e-9)
    it = Syncer(settings, session, metrics)
    with capture_logs() as logs:
        assert [await it.reconcile() for _ in range(3)] == [False, False, False]
    assert [line["event"] for line in logs[1:]] == ["Waiting for the model server", "Model server not healthy"]


async def test_a_bad_adapter_waits_and_the_others_do_not(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    folder.want(server, [("bad", "/absent"), ("good", "/good")], ["first"])
    it = syncer(folder, session, metrics)
    with capture_logs() as logs:
        await it.reconcile()
        await it.reconcile()
    assert await adapters(session, server) == {"good": "/good"}
    (failure,) = [line for line in logs if line["log_level"] == "error"]
    assert failure["event"] == "Adapter not loaded"
    assert failure["problem"] == "404 Loading lora bad failed: No adapter found for /absent"
    assert failure["retry_in_seconds"] > 0
    shown = metrics.render().decode()
    assert 'lora_syncer_adapter_status{adapter_name="bad"} 0.0' in shown
    assert 'lora_syncer_actions_total{action="load",outcome="failed"} 1.0' in shown
    # Another source is another adapter: it does not wait.
    folder.want(server, [("bad", "/mended"), ("good", "/good")])
    await it.reconcile()
    assert await adapters(session, server) == {"good": "/good", "bad": "/mended"}


async def test_a_server_that_may_not_be_told_is_told_of(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start("vllm serve m --enable-lora --lora-modules first=/lora/first")
    folder.want(server, [("a", "/a")], ["first"])
    with capture_logs() as logs:
        await syncer(folder, session, metrics).reconcile()
    assert [(line["event"], line["problem"]) for line in logs if line["log_level"] == "error"] == [
        ("Adapter not loaded", "404 Not Found"),
        ("Adapter not unloaded", "404 Not Found"),
    ]


async def test_conflicts_are_named_once(start: Start, session: ClientSession, folder: Folder, metrics: Metrics) -> None:
    server = await start()
    folder.want(server, [("first", "/lora/first"), ("a", "/a")], ["first", "a", "m"])
    it = syncer(folder, session, metrics)
    with capture_logs() as logs:
        await it.reconcile()
        await it.reconcile()
    assert await adapters(session, server) == {"first": "/lora/first"}
    told = [line["adapter"] for line in logs if line["event"] == "Adapter left as it is"]
    assert sorted(told) == ["a", "first", "m"]


async def test_a_configuration_that_is_not_valid_changes_nothing(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    it = syncer(folder, session, metrics)
    with capture_logs() as logs:
        await it.reconcile()
        folder.want(server, [("a", "/a")])
        await it.reconcile()
        folder.write("vLLMLoRAConfig: {ensureNotExist: {models: [{id: a, source: x}, {id: 3}]}}")
        await it.reconcile()
        await it.reconcile()
        assert "lora_syncer_config_valid 0.0" in metrics.render().decode()
        # The last good one stays in force.
        await session.post(server.site.url + "/v1/unload_lora_adapter", json={"lora_name": "a"})
        await it.reconcile()
    assert await adapters(session, server) == {"first": "/lora/first", "a": "/a"}
    refused = [(line["field"], line["problem"]) for line in logs if line["event"] == "Configuration refused"]
    assert refused == [
        ("", "cannot be read: No such file or directory"),
        ("vLLMLoRAConfig.ensureNotExist.models[1].id", "expected str, got int"),
    ]


async def test_adapters_that_are_named_no_longer_leave_the_metrics(
    start: Start,
    session: ClientSession,
    folder: Folder,
    metrics: Metrics,
) -> None:
    server = await start()
    it = syncer(folder, session, metrics)
    for name in ("a", "b"):
        folder.want(server, [(name, "/" + name)])
        await it.reconcile()
    shown = metrics.render().decode()
    assert 'adapter_name="b"' in shown
    assert 'adapter_name="a"' not in shown


async def test_metrics_over_http(session: ClientSession, metrics: Metrics) -> None:
    async with serve(metrics, "127.0.0.1", 0) as port, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        assert response.content_type == "text/plain"
        assert "lora_syncer_adapter_status" in await response.text()


async def start_program(folder: Folder, server: ModelServer, **more: str) -> asyncio.subprocess.Process:
    # The file says nothing of a host: it is this machine, which is told to be another address.
    folder.write("vLLMLoRAConfig: {ensureExist: {models: [{id: a, source: /a}]}}")
    environment = {
        **os.environ,
        "DYNAMIC_LORA_ROLLOUT_CONFIG": str(folder.file),
        "POINTSMAN_LOCALHOST": server.site.host,
        "POINTSMAN_LISTENING_PORTS": f"8000={server.site.port}",
        **more,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "lora_syncer", "--metrics-port", "0"),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_program(start: Start, session: ClientSession, folder: Folder) -> None:
    server = await start()
    child = await start_program(folder, server)
    try:
        await reach(session, server, {"first": "/lora/first", "a": "/a"})
        child.send_signal(signal.SIGTERM)
        _, errors = await child.communicate()
    finally:
        with suppress(ProcessLookupError):
            child.kill()
    assert child.returncode == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line["event"] for line in lines][:2] == ["Configuration read", "Adapter loaded"]


async def test_a_simulated_pods_syncer_ends_with_its_parent(
    start: Start,
    session: ClientSession,
    folder: Folder,
) -> None:
    server = await start()
    child = await start_program(folder, server, POINTSMAN_ENDS_WITH_STDIN="1")
    try:
        await reach(session, server, {"first": "/lora/first", "a": "/a"})
        assert child.stdin is not None
        child.stdin.close()
        async with asyncio.timeout(PATIENCE):
            assert await child.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            child.kill()
    assert child.stderr is not None
    assert b"Traceback" not in await child.stderr.read()
