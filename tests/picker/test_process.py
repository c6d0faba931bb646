"""The whole picker on real sockets: a control plane before it, pods behind it, and a client in Envoy's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import orjson
from aiohttp import ClientSession
from grpc_health.v1 import health_pb2, health_pb2_grpc
from picker_worlds import (
    ControlPlane,
    Envoy,
    Pod,
    Stderr,
    assignment,
    body_message,
    destinations,
    entry,
    headers_message,
    identity,
    log_message,
    pods,
    pool,
)

from picker import PickerSettings, serve
from picker.probe import ProbeTimes
from picker.scrape import ScrapeTimes
from pointsman.ports import port_to_keep

FAST_SCRAPES = ScrapeTimes(busy=0.01, each=0.0, sums=0.0, idle=0.01, timeout=0.3, stall=0.1, heal=0.4)
FAST_PROBES = ProbeTimes(answer=0.3, idle_completion=0.2, completion=0.3, retry=0.02, pause=0.02)


@dataclass
class World:
    control_plane: ControlPlane
    envoy: Envoy
    stderr: Stderr
    metrics: str
    listen: str
    health: str

    def publish(self, *ready: Pod) -> None:
        rows = [(pod.address, pod.name) for pod in ready]
        self.control_plane.assignments["pool/default/qwen"] = assignment("pool/default/qwen", rows)
        self.control_plane.change()

    async def picked(self, model: str = "qwen") -> list[str]:
        [answer] = await self.envoy.exchange("default/qwen", headers_message(model))
        return destinations(answer)


@asynccontextmanager
async def world(
    tmp_path: Path, *ready: Pod, models: dict[str, dict[str, int]] | None = None, debug: bool = False
) -> AsyncIterator[World]:
    control_plane = ControlPlane(f"unix:{tmp_path}/xds.sock")
    control_plane.pools["default/qwen"] = pool("default/qwen", models=models)
    rows = [(pod.address, pod.name) for pod in ready]
    control_plane.assignments["pool/default/qwen"] = assignment("pool/default/qwen", rows)
    metrics = f"127.0.0.1:{port_to_keep()}"
    health = f"127.0.0.1:{port_to_keep()}"
    listen = f"unix:{tmp_path}/picker.sock"
    settings = PickerSettings(
        control_plane.address,
        listen,
        metrics,
        "up",
        scrape=FAST_SCRAPES,
        probe=FAST_PROBES,
        debug=debug,
        health=health,
    )
    stop = asyncio.Event()
    stderr = Stderr()
    async with control_plane.running():
        task = asyncio.create_task(serve(settings, stop, stderr))
        try:
            await stderr.line("Picker ready")
            # A channel that failed to connect waits before it tries again.
            envoy = Envoy(listen)
            yield World(control_plane, envoy, stderr, metrics, listen, health)
            await envoy.close()
        finally:
            stop.set()
            await task


async def test_a_request_without_body_gets_its_pod_and_the_stream_ends(tmp_path: Path) -> None:
    async with pods(Pod("a", waiting=9), Pod("b"), Pod("c", waiting=3)) as (a, b, c), world(tmp_path, a, b, c) as w:
        assert await w.picked() == [b.address, c.address, a.address]


async def test_probes_are_answered_on_a_port_of_their_own(tmp_path: Path) -> None:
    async with pods(Pod("a")) as (a,), world(tmp_path, a) as w, grpc.aio.insecure_channel(w.health) as channel:
        found = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert found.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_body_gets_the_target_models_name(tmp_path: Path) -> None:
    models = {"qwen": {"qwen-lora": 1}}
    async with pods(Pod("a")) as (a,), world(tmp_path, a, models=models) as w:
        first, second = await w.envoy.exchange(
            "default/qwen",
            headers_message("qwen", length=32),
            body_message(b'{"model": "qwen", "stream":true}'),
            body=True,
        )
        assert first.WhichOneof("response") == "request_headers"
        assert destinations(first) == []
        assert destinations(second) == [a.address]
        common = second.request_body.response
        assert common.body_mutation.body == b'{"model": "qwen-lora", "stream":true}'
        [option] = common.header_mutation.set_headers
        assert (option.header.key, option.header.raw_value) == ("content-length", b"37")


async def test_the_access_log_ends_a_request_with_one_line(tmp_path: Path) -> None:
    async with pods(Pod("a")) as (a,), world(tmp_path, a) as w:
        [answer] = await w.envoy.exchange("default/qwen", headers_message("qwen"))
        stream = w.envoy.open_log()
        await stream.write(log_message(entry(identity(answer), a.address), node="envoy-1"))
        line = await w.stderr.line("Request Handled")
        assert {
            "pool": "default/qwen",
            "model": "qwen",
            "target_model": "qwen",
            "pod_picked": "a",
            "pod_served": "a",
            "address": a.address,
            "status": 200,
            "duration_ms": 120.0,
            "ttft_ms": 20.0,
            "request_id": "r-1",
            "attempts": 1,
        }.items() <= line.items()
        assert line["reason"].startswith("waiting=0 kv=0.00 running=0 in_flight=0")
        assert line["decision_ms"] > 0
        async with ClientSession() as session, session.get(f"http://{w.metrics}/metrics") as page:
            text = await page.text()
        assert 'pointsman_picker_requests_total{model="other",pool="default/qwen",status="200"} 1.0' in text
        assert "pointsman_picker_in_flight_requests 0.0" in text
        assert 'gen_ai_server_request_duration_seconds_sum{error_type="",gateway="default/edge",' in text
        stream.cancel()


async def test_decisions_are_counted_by_reason_and_explained_at_debug_level(tmp_path: Path) -> None:
    async with (
        pods(Pod("a", waiting=2), Pod("b")) as (a, b),
        world(tmp_path, a, b, debug=True) as w,
    ):
        await w.picked()
        line = await w.stderr.line("Pod Picked")
        assert (line["level"], line["reason"], line["target_model"]) == ("debug", "queue", "qwen")
        assert [(row["pod"], row["queue"]) for row in line["candidates"]] == [("b", 0.0), ("a", 2.0)]
        async with ClientSession() as session, session.get(f"http://{w.metrics}/metrics") as page:
            text = await page.text()
        assert 'pointsman_picker_decisions_total{pool="default/qwen",reason="queue"} 1.0' in text


async def test_a_request_that_the_picker_was_not_asked_about_is_logged_too(tmp_path: Path) -> None:
    async with pods(Pod("a")) as (a,), world(tmp_path, a) as w:
        stream = w.envoy.open_log()
        await stream.write(
            log_message(entry("", a.address), entry("", a.address, cluster="service/other"), node="envoy-1")
        )
        line = await w.stderr.line("Request Handled")
        assert (line["pod_served"], line["reason"], line["model"]) == ("a", "not asked", "qwen")
        assert len(w.stderr.lines("Request Handled")) == 1
        stream.cancel()


async def test_an_envoy_that_goes_leaves_nothing_in_flight(tmp_path: Path) -> None:
    async with pods(Pod("a", running=1)) as (a,), world(tmp_path, a) as w:
        [first] = await w.envoy.exchange("default/qwen", headers_message())
        await w.envoy.exchange("default/qwen", headers_message())
        stream = w.envoy.open_log()
        await stream.write(log_message(entry(identity(first), a.address), node="envoy-1"))
        await w.stderr.line("Request Handled")
        stream.cancel()
        assert (await w.stderr.line("Envoy gone"))["forgotten"] == 1


async def test_no_pods_is_503_in_openais_shape(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        [answer] = await w.envoy.exchange("default/qwen", headers_message("qwen"))
        immediate = answer.immediate_response
        assert (immediate.status.code, immediate.details) == (503, "pointsman_no_ready_endpoint")
        error = orjson.loads(immediate.body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert "'qwen'" in error["message"]


async def test_an_unknown_pool_is_503(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for body in (False, True):
            [answer] = await w.envoy.exchange("default/none", headers_message(), body=body)
            assert answer.immediate_response.details == "pointsman_unknown_pool"


async def test_a_pool_that_envoy_knows_first_is_waited_for(tmp_path: Path) -> None:
    async with pods(Pod("a")) as (a,), world(tmp_path, a) as w:
        asking = asyncio.create_task(w.envoy.exchange("default/new", headers_message()))
        w.control_plane.pools["default/new"] = pool("default/new")
        w.control_plane.assignments["pool/default/new"] = assignment("pool/default/new", [(a.address, "a")])
        w.control_plane.change()
        [answer] = await asking
        assert destinations(answer) == [a.address]


async def test_a_pod_that_refuses_is_avoided_until_it_is_back(tmp_path: Path) -> None:
    async with pods(Pod("a"), Pod("b", waiting=5)) as (a, b), world(tmp_path, a, b) as w:
        assert (await w.picked())[0] == a.address
        await a.stop()
        assert (await w.stderr.line("Endpoint avoided"))["pod"] == "a"
        assert await w.picked() == [b.address]
        await a.start()
        assert (await w.stderr.line("Endpoint back"))["pod"] == "a"
        assert (await w.picked())[0] == a.address


async def test_a_pod_that_hangs_is_avoided(tmp_path: Path) -> None:
    async with pods(Pod("a"), Pod("b", waiting=5)) as (a, b), world(tmp_path, a, b) as w:
        a.statuses["*"] = None
        assert (await w.stderr.line("Endpoint avoided"))["pod"] == "a"
        assert await w.picked() == [b.address]


async def test_a_pod_whose_completions_hang_is_found_out(tmp_path: Path) -> None:
    async with pods(Pod("a"), Pod("b", waiting=5)) as (a, b), world(tmp_path, a, b) as w:
        a.statuses["/v1/completions"] = a.statuses["/v1/chat/completions"] = None
        assert (await w.picked())[0] == a.address
        line = await w.stderr.line("Endpoint avoided")
        assert (line["pod"], line["reason"]) == ("a", "no completion within 0.2 s")


async def test_a_pod_that_answers_503_is_avoided_after_a_probe_of_our_own(tmp_path: Path) -> None:
    async with pods(Pod("a"), Pod("b", waiting=5)) as (a, b), world(tmp_path, a, b) as w:
        a.statuses["/v1/chat/completions"] = 503
        [answer] = await w.envoy.exchange("default/qwen", headers_message())
        stream = w.envoy.open_log()
        await stream.write(log_message(entry(identity(answer), b.address, attempts=2), node="envoy-1"))
        line = await w.stderr.line("Endpoint avoided")
        assert (line["pod"], line["reason"]) == ("a", "/v1/chat/completions answers 503")
        assert await w.picked() == [b.address]
        a.statuses.clear()
        await w.stderr.line("Endpoint back")
        stream.cancel()


async def test_no_content_puts_a_pod_on_the_avoided_list(tmp_path: Path) -> None:
    async with pods(Pod("a"), Pod("b", waiting=5)) as (a, b), world(tmp_path, a, b) as w:
        stream = w.envoy.open_log()
        for number in range(5):
            [answer] = await w.envoy.exchange("default/qwen", headers_message())
            poisoned = entry(
                identity(answer), b.address, attempts=3, status=503, details="upstream_reset_before_response_started"
            )
            await stream.write(log_message(poisoned, node="envoy-1"))
            await w.stderr.line("Request Handled", number + 1)
        while not any(path.startswith("/v1/") and "completions" in path for path in a.asked):
            await asyncio.sleep(0.005)
        assert orjson.loads(a.bodies[0])["max_tokens"] == 1
        assert w.stderr.lines("Endpoint avoided") == []
        stream.cancel()


async def test_pods_come_and_go_and_the_last_state_outlives_the_control_plane(tmp_path: Path) -> None:
    async with pods(Pod("a"), Pod("b")) as (a, b), world(tmp_path, a) as w:
        w.publish(a, b)
        while len(await w.picked()) != 2:
            await asyncio.sleep(0.005)
        w.publish(b)
        while await w.picked() != [b.address]:
            await asyncio.sleep(0.005)


async def test_the_picker_reconnects_with_the_versions_it_holds(tmp_path: Path) -> None:
    async with pods(Pod("a")) as (a,):
        control_plane = ControlPlane(f"unix:{tmp_path}/xds.sock")
        control_plane.pools["default/qwen"] = pool("default/qwen")
        control_plane.assignments["pool/default/qwen"] = assignment("pool/default/qwen", [(a.address, "a")])
        listen = f"unix:{tmp_path}/picker.sock"
        settings = PickerSettings(control_plane.address, listen, f"127.0.0.1:{port_to_keep()}", "up", FAST_SCRAPES)
        stop, stderr = asyncio.Event(), Stderr()
        async with control_plane.running():
            task = asyncio.create_task(serve(settings, stop, stderr))
            await stderr.line("Picker ready")
        await stderr.line("Control plane away")
        envoy = Envoy(listen)
        [answer] = await envoy.exchange("default/qwen", headers_message())
        assert destinations(answer) == [a.address]
        control_plane.requests.clear()
        async with control_plane.running():
            await stderr.line("Control plane back")
            first = control_plane.requests[0]
            assert first.node.cluster == "up"
            assert dict(first.initial_resource_versions) == {"default/qwen": "0"}
            await envoy.close()
            stop.set()
            await task
