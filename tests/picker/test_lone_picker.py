"""A picker by itself, as any gateway would use it: the real process, gRPC and TLS, without control plane and Envoy."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import kinds
import pytest
from grpc_health.v1 import health_pb2
from lone_picker import PATIENCE, PORT, LonePicker, lone_picker, play, stream, write_pods, write_pool
from oracle import certificate
from other_gateway import MODES, OtherGateway, headers_message, piece_message
from picker_worlds import Pod, pods
from running import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
READINESS = ("readiness", "envoy.service.ext_proc.v3.ExternalProcessor", "inference-extension", "")


def servers(*waiting: int) -> list[Pod]:
    """Pods with so many requests waiting, at 127.0.9.1 and so on."""
    return [
        Pod(f"chat-{number}", waiting=each, address=f"127.0.9.{number + 1}:{PORT}")
        for number, each in enumerate(waiting)
    ]


@asynccontextmanager
async def world(folder: Path, *waiting: int, tls: str = "off") -> AsyncIterator[LonePicker]:
    async with pods(*servers(*waiting)) as made:
        write_pool(folder, *(pod.address.partition(":")[0] for pod in made))
        async with lone_picker(folder, tls=tls) as picker:
            await picker.knows_load(len(waiting))
            yield picker


@pytest.mark.parametrize("tls", ["off", "self-signed"])
async def test_every_mode_picks_renames_and_keeps_the_rest(tmp_path: Path, tls: str) -> None:
    kinds.write(tmp_path / "model.yaml", kinds.model("qwen", "chat", {"qwen-v2": 1}))
    async with world(tmp_path, 3, 0, tls=tls) as picker:
        channel = picker.channel()
        order = f"127.0.9.2:{PORT},127.0.9.1:{PORT}"
        for mode in MODES:
            for size in (10, 100_000, 20 << 20):
                body = b'{"prompt":"' + b"x" * size + b'","model":"qwen"}'
                # Any pieces, among them empty ones.
                pieces = [body[at : at + 61_111] for at in range(0, len(body), 61_111)] + [b""]
                for trailers in (False, True):
                    headers = {"content-length": str(len(body))}
                    seen = await play(channel, OtherGateway(mode, pieces, trailers, headers=headers))
                    assert (seen.by_header, seen.by_metadata) == (order, order)
                    expected = body if mode == "NONE" else body.replace(b'"qwen"', b'"qwen-v2"')
                    assert seen.body == expected
                    assert seen.headers.get("content-length", str(len(expected))) == str(len(expected))
                    assert seen.trailers == trailers


async def test_the_answer_passes_and_is_told_of(tmp_path: Path) -> None:
    async with world(tmp_path, 0, 5) as picker:
        outcome = headers_message({":status": "200"}, end=False, kind="response_headers")
        served = f"127.0.9.2:{PORT}"
        fields = outcome.metadata_context.filter_metadata["envoy.lb"].fields
        fields["x-gateway-destination-endpoint-served"].string_value = served
        answer = [outcome, piece_message(b"data: 1\n\n", end=False, kind="response_body")]
        answer.append(piece_message(b"data: [DONE]\n\n", end=True, kind="response_body"))
        headers = {":path": "/v1/chat/completions", "x-request-id": "r-1"}
        gateway = OtherGateway("FULL_DUPLEX_STREAMED", [b'{"model":"m"}'], headers=headers)
        await play(picker.channel(), gateway, *answer)
        line = await picker.line("Request Handled", request_id="r-1")
        assert (line["pod_picked"], line["pod_served"], line["address"]) == ("default/chat-0", "default/chat-1", served)
        assert (line["status"], line["details"]) == (200, "via_upstream")


async def test_the_hint_is_honoured_and_nobody_is_a_503(tmp_path: Path) -> None:
    async with world(tmp_path, 0, 0) as picker:
        channel = picker.channel()
        for mode in MODES:
            other = f"127.0.9.2:{PORT}"
            seen = await play(channel, OtherGateway(mode, [b"{}"], subset=[other]))
            assert (seen.by_header, seen.by_metadata) == (other, other)
            for nobody in ([], ["10.0.0.1:1"]):
                assert (await play(channel, OtherGateway(mode, [b"{}"], subset=nobody))).refused == 503
        write_pods(tmp_path)

        async def is_empty() -> bool:
            return (await play(channel, OtherGateway("NONE"))).refused == 503

        await until(is_empty, PATIENCE)
        assert (await play(channel, OtherGateway("BUFFERED", [b"{}"]))).refused == 503


async def test_a_busy_pool_sheds(tmp_path: Path) -> None:
    async with world(tmp_path, 50, 50) as picker:
        channel = picker.channel()
        for mode in MODES:
            # In a v1alpha2 pool a model that nothing declares may be shed.
            assert (await play(channel, OtherGateway(mode, [b'{"model":"m"}']))).refused == 429


@pytest.mark.parametrize("api", ["v1", "v1alpha2"])
async def test_it_learns_of_its_pool_and_of_every_change(tmp_path: Path, api: str) -> None:
    async with pods(*servers(0, 0, 0)), lone_picker(tmp_path) as picker:
        problem = await picker.line("Problem")
        assert problem["problem"] == "InferencePool default/chat: does not exist"
        channel = picker.channel()

        async def picked() -> str:
            seen = await play(channel, OtherGateway("BUFFERED", [b'{"model":"qwen"}']))
            return seen.by_metadata if seen.body == b'{"model":"qwen"}' else "renamed"

        async def until_picked(*numbers: int) -> None:
            wanted = {f"127.0.9.{number}:{PORT}" for number in numbers}

            async def is_so() -> bool:
                return set((await picked()).split(",")) == wanted

            await until(is_so, PATIENCE)

        write_pool(tmp_path, "127.0.9.1", api=api)
        await until_picked(1)
        write_pods(tmp_path, "127.0.9.2", "127.0.9.3")
        await until_picked(2, 3)
        # A mistake changes nothing, and is told of.
        (tmp_path / "pods.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n")
        await until(lambda: _told(picker, "pods.yaml"), PATIENCE)
        await until_picked(2, 3)
        write_pods(tmp_path, "127.0.9.1")
        await until_picked(1)
        if api == "v1alpha2":
            kinds.write(tmp_path / "model.yaml", kinds.model("qwen", "chat", {"qwen-v2": 1}))
            await until(lambda: _is(picked, "renamed"), PATIENCE)


async def _told(picker: LonePicker, word: str) -> bool:
    return any(word in str(line.get("problem")) for line in picker.lines)


async def _is(picked: object, wanted: str) -> bool:
    return await picked() == wanted  # type: ignore[operator, no-any-return]


async def test_health_is_checked_and_watched(tmp_path: Path) -> None:
    async with pods(*servers(0)), lone_picker(tmp_path) as picker:
        health = picker.health()

        async def status(service: str) -> int:
            found = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            return int(found.status)

        assert await status("liveness") == SERVING
        # There is no such pool yet.
        assert [await status(service) for service in READINESS] == [NOT_SERVING] * 4
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await status("nobody")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        watches = {
            service: health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            for service in (*READINESS, "nobody")
        }
        first = {service: (await watch.read()).status for service, watch in watches.items()}
        assert first == {**dict.fromkeys(READINESS, NOT_SERVING), "nobody": UNKNOWN}
        write_pool(tmp_path, "127.0.9.1")
        for service in READINESS:
            assert (await watches[service].read()).status == SERVING
        # The port for requests has the same.
        asked = picker.health(picker.channel())
        found = await asked.Check(health_pb2.HealthCheckRequest(service=READINESS[1]), timeout=PATIENCE)
        assert found.status == SERVING
        (tmp_path / "pool.yaml").unlink()
        for service in READINESS:
            assert (await watches[service].read()).status == NOT_SERVING
        for watch in watches.values():
            watch.cancel()


async def test_a_certificate_from_files_is_shown_and_replaced(tmp_path: Path) -> None:
    folder, files = tmp_path / "folder", tmp_path / "tls"
    files.mkdir()

    def renew() -> str:
        certificate(tmp_path, name="pointsman-picker")
        shown = (tmp_path / "chain.pem").read_text()
        # In two steps, between which the files do not belong together.
        (files / "tls.key").write_bytes((tmp_path / "key.pem").read_bytes())
        (files / "tls.crt").write_text(shown)
        return shown

    shown = renew()
    async with pods(*servers(0)):
        write_pool(folder, "127.0.9.1")
        async with lone_picker(folder, tls=str(files)) as picker:
            for _ in range(2):
                assert await asyncio.to_thread(_shown, picker) == shown
                assert (await play(picker.channel(), OtherGateway("NONE"))).by_header == f"127.0.9.1:{PORT}"
                shown = renew()
            await asyncio.to_thread(_shown, picker)
            (files / "tls.crt").write_text("nonsense")
            assert (await play(picker.channel(), OtherGateway("NONE"))).by_header == f"127.0.9.1:{PORT}"


def _shown(picker: LonePicker) -> str:
    return ssl.get_server_certificate(("127.0.0.1", picker.port))


async def test_what_is_passing_may_end_when_it_is_told_to_stop(tmp_path: Path) -> None:
    async with world(tmp_path, 0) as picker:
        call = stream(picker.channel())
        await call.write(headers_message({}, end=False))
        await call.write(piece_message(b"{}", end=True))
        head, body = await call.read(), await call.read()
        assert (head.WhichOneof("response"), body.WhichOneof("response")) == ("request_headers", "request_body")
        watch = picker.health().Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=PATIENCE)
        assert (await watch.read()).status == SERVING
        picker.tell(signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        for end in (False, True):
            await call.write(piece_message(b"data\n\n", end=end, kind="response_body"))
            assert (await call.read()).WhichOneof("response") == "response_body"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        watch.cancel()
        await asyncio.wait_for(picker.process.wait(), PATIENCE)
        assert picker.process.returncode == 0
