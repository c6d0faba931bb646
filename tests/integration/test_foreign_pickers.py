"""Pools whose pickers are not Pointsman's own, through real Envoy."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio
import kinds
import pytest
from oracle import certificate, oracle
from picker_metrics import scrape
from running import Running, Start, until

from resources import STRATEGY_ANNOTATION


def write(folder: Path) -> None:
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    flags = "--served-model-name base tuned"
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", flags, replicas=3))


async def ask(running: Running, headers: Mapping[str, str], **more: object) -> tuple[int, Mapping[str, str], bytes]:
    body = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, **more}
    async with running.session.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as response:
        return response.status, response.headers, await response.read()


@pytest.mark.parametrize("encrypted", [True, False])
async def test_the_pool_s_own_picker_decides_and_is_told(start: Start, tmp_path: Path, encrypted: bool) -> None:  # noqa: FBT001
    folder = tmp_path / "folder"
    write(folder)
    async with oracle(certificate(tmp_path) if encrypted else None) as other:
        protocol = "http2" if encrypted else "kubernetes.io/h2c"
        kinds.write(
            folder / "picker.yaml",
            kinds.picker_service("oracle", protocol=protocol),
            kinds.picker_slice("oracle", other.port),
        )
        kinds.write(folder / "pool.yaml", kinds.picked_pool("theirs", "chat", "oracle"))
        kinds.write(folder / "route.yaml", kinds.route("route", kinds.rule(kinds.to_pool("theirs"))))
        running = await start(folder)
        addresses = list((await running.pods("default/theirs")).values())
        for address in addresses:
            status, headers, body = await ask(running, {"x-wish": address})
            assert (status, headers["x-served"]) == (200, address), body
            assert json.loads(body)["model"] == "base"
        # The list is followed in order; what is not of the pool is passed over.
        _, headers, _ = await ask(running, {"x-wish": f"127.0.0.1:1,{addresses[1]}"})
        assert headers["x-served"] == addresses[1]
        # A client's own destination counts for nothing.
        _, headers, _ = await ask(running, {"x-wish": addresses[2], "x-gateway-destination-endpoint": addresses[0]})
        assert headers["x-served"] == addresses[2]
        # Bodies may change their length, and answers stream.
        status, _, body = await ask(running, {"x-wish": addresses[0], "x-rename": "base=tuned"}, stream=True)
        assert status == 200
        assert body.count(b'"model":"tuned"') >= 3
        assert body.endswith(b"data: [DONE]\n\n")
        assert {path for _, path in other.asked} == {"/v1/chat/completions"}


async def test_each_share_of_a_rule_asks_its_own_picker(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    kinds.write(tmp_path / "others.yaml", kinds.deployment("other", "--served-model-name base"))
    async with oracle() as other:
        service = kinds.picker_service("oracle", protocol="kubernetes.io/h2c")
        kinds.write(tmp_path / "picker.yaml", service, kinds.picker_slice("oracle", other.port))
        kinds.write(tmp_path / "pools.yaml", kinds.picked_pool("theirs", "chat", "oracle"), kinds.pool("ours", "other"))
        shares = [kinds.to_pool("theirs"), kinds.to_pool("ours")]
        # By the model, too: then the route is chosen anew after the filters are in place.
        rules = [kinds.rule(*shares, model="base"), kinds.rule(*shares)]
        kinds.write(tmp_path / "route.yaml", kinds.route("route", *rules))
        running = await start(tmp_path)
        theirs = set((await running.pods("default/theirs")).values())
        for model in ("base", "tuned"):
            before = len(other.asked)
            answers = [await ask(running, {"x-wish": min(theirs)}, model=model) for _ in range(40)]
            if model == "base":
                assert {status for status, _, _ in answers} == {200}, [each for each in answers if each[0] != 200][:1]
            served = [headers["x-served"] for _, headers, _ in answers if "x-served" in headers]
            assert set(served) == {min(theirs)}
            assert len(other.asked) - before == len(served)
            assert 5 <= len(served) <= 35


async def test_a_picker_that_may_fail_open_is_passed_over_while_it_is_away(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    service = kinds.picker_service("oracle", protocol="kubernetes.io/h2c")
    kinds.write(tmp_path / "picker.yaml", service)
    kinds.write(
        tmp_path / "pools.yaml",
        kinds.picked_pool("open", "chat", "oracle", "FailOpen"),
        kinds.picked_pool("closed", "chat", "oracle"),
    )
    rules = [kinds.rule(kinds.to_pool(name), headers={"pool": name}) for name in ("open", "closed")]
    kinds.write(tmp_path / "route.yaml", kinds.route("route", *rules))
    running = await start(tmp_path)
    assert (await ask(running, {"pool": "open"}))[0] == 200
    status, _, body = await ask(running, {"pool": "closed"})
    assert status >= 500, body
    assert set(json.loads(body)) == {"error"}
    async with oracle() as other:
        kinds.write(tmp_path / "slice.yaml", kinds.picker_slice("oracle", other.port))

        async def is_asked() -> bool:
            status, headers, _ = await ask(running, {"pool": "open", "x-wish": address})
            assert status == 200
            return headers.get("x-served") == address

        address = next(iter((await running.pods("default/open")).values()))
        await until(is_asked, 10)
        assert (await ask(running, {"pool": "closed", "x-wish": address}))[0] == 200
        (tmp_path / "slice.yaml").unlink()
        await until(lambda: _is_passed_over(running), 10)
    for _ in range(10):
        assert (await ask(running, {"pool": "open"}))[0] == 200
        await asyncio.sleep(0)


async def test_a_pool_may_have_its_picker_told_of_its_endpoints(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    kinds.write(tmp_path / "others.yaml", kinds.deployment("other", "--served-model-name base"))
    async with oracle() as other:
        service = kinds.picker_service("oracle", protocol="kubernetes.io/h2c")
        kinds.write(tmp_path / "picker.yaml", service, kinds.picker_slice("oracle", other.port))
        annotations = {"pointsman.dev/subset-hint": "true"}
        told = [
            kinds.annotated(kinds.picked_pool(f"told-{mode.lower()}", "chat", "oracle", f"Fail{mode}"), annotations)
            for mode in ("Open", "Close")
        ]
        kinds.write(tmp_path / "pools.yaml", *told, kinds.picked_pool("untold", "other", "oracle"))
        rules = [
            kinds.rule(kinds.to_pool("told-open"), kinds.to_pool("untold"), headers={"to": "both"}),
            *(kinds.rule(kinds.to_pool(name), model=name) for name in ("told-close", "untold")),
        ]
        kinds.write(tmp_path / "route.yaml", kinds.route("route", *rules))
        running = await start(tmp_path)

        async def is_told(replicas: int) -> bool:
            addresses = sorted((await running.pods("default/told-open")).values())
            other.told.clear()
            status, _, _ = await ask(running, {"x-wish": addresses[0]}, model="told-close")
            assert status in (200, 404)
            return len(addresses) == replicas and sorted(other.told[0] or []) == addresses

        await until(lambda: is_told(3), 10)
        await ask(running, {}, model="untold")
        assert other.told[-1] is None
        # By shares of one rule, too.
        for _ in range(30):
            await ask(running, {"to": "both"})
        shares = [tuple(sorted(each)) if each else None for each in other.told[-30:]]
        assert set(shares) == {None, tuple(sorted((await running.pods("default/told-open")).values()))}
        # Routes follow the pods.
        kinds.write(tmp_path / "servers.yaml", kinds.deployment("chat", "--served-model-name base tuned", replicas=5))
        await until(lambda: is_told(5), 20)
        kinds.write(tmp_path / "servers.yaml", kinds.deployment("chat", "--served-model-name base tuned", replicas=1))
        await until(lambda: is_told(1), 20)


async def test_pools_of_one_rule_have_pickers_and_failure_modes_of_their_own(start: Start, tmp_path: Path) -> None:
    flags = "--served-model-name base"
    kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    names = ("opening", "closing", "ours")
    kinds.write(tmp_path / "servers.yaml", *(kinds.deployment(name, flags, replicas=2) for name in names))
    async with oracle() as opening, oracle() as closing:
        pickers = {"opening": opening, "closing": closing}
        for name, each in pickers.items():
            service = kinds.picker_service(name, protocol="kubernetes.io/h2c")
            kinds.write(tmp_path / f"{name}.yaml", service, kinds.picker_slice(name, each.port))
        kinds.write(
            tmp_path / "pools.yaml",
            kinds.picked_pool("opening", "opening", "opening", "FailOpen"),
            kinds.picked_pool("closing", "closing", "closing"),
            kinds.pool("ours", "ours"),
        )
        changed = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-away"]}}
        seen = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-seen", "value": "1"}]}}
        more = {"filters": [changed, seen], "timeouts": {"request": "20s", "backendRequest": "1s"}}
        shares = [kinds.to_pool(name, weight=weight) for name, weight in zip(names, (3, 2, 1), strict=True)]
        kinds.write(tmp_path / "route.yaml", kinds.route("route", kinds.rule(*shares, **more)))
        running = await start(tmp_path)
        pods = {name: list((await running.pods(f"default/{name}")).values()) for name in names}
        # Each picker lists its own pool's endpoints; the first refuses, or takes a request and never answers.
        wish = ",".join(address for name in ("opening", "closing") for address in reversed(pods[name]))

        async def served() -> Counter[str]:
            """Ask often, and count who served, or what Envoy answered, for each picker."""
            found: Counter[str] = Counter()
            for _ in range(60):
                status, headers, body = await ask(running, {"x-wish": wish, "x-away": "1"})
                pool = next((name for name in names if headers.get("x-simulated-pod", "").startswith(name)), "")
                if status != 200:
                    assert json.loads(body)["error"]["code"] == "picker_unavailable"
                    found[f"{status}"] += 1
                    continue
                assert headers["x-seen"] == "1"
                if "x-served" in headers:
                    # It is told who served, not who was picked.
                    assert headers["x-served"] == pods[pool][-1 if healthy else 0]
                found[f"{pool} by {'its own' if 'x-served' in headers else 'ours'}"] += 1
            return found

        healthy = True
        counts = await served()
        assert counts.keys() == {"opening by its own", "closing by its own", "ours by ours"}
        assert counts["opening by its own"] > counts["ours by ours"]
        # The list is walked: what refuses, and what does not answer in time.
        healthy = False
        for name, mode in (("opening", "refuse"), ("closing", "hang")):
            await running.fault(pods[name][-1], mode)
        assert (await served()).keys() == {"opening by its own", "closing by its own", "ours by ours"}
    # Both pickers are gone.
    counts = await served()
    assert counts.keys() == {"opening by ours", "503", "ours by ours"}


async def _is_passed_over(running: Running) -> bool:
    status, headers, _ = await ask(running, {"pool": "open"})
    assert status == 200
    return "x-served" not in headers


def epp(name: str, of: str) -> tuple[kinds.Manifest, kinds.Manifest]:
    """The Inference Extension's picker as a Deployment, and its Service."""
    image = "registry.k8s.io/gateway-api-inference-extension/epp:v0.3.0"
    args = ["-poolName", of, "-v", "4", "--zap-encoder", "json", "-grpcPort", "9002", "-grpcHealthPort", "9003"]
    container = {"name": "epp", "image": image, "args": args, "ports": [{"containerPort": 9002}]}
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    made = kinds.picker_service(name, protocol="http2")
    return deployment, {**made, "spec": {**made["spec"], "selector": labels}}


async def test_a_picker_s_deployment_is_simulated_by_ours(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    kinds.write(tmp_path / "picker.yaml", *epp("chooser", "theirs"))
    # A picker whose pool is not there keeps nobody waiting.
    kinds.write(tmp_path / "idle.yaml", *epp("idle", "nowhere"))
    theirs = kinds.picked_pool("theirs", "chat", "chooser")
    metadata = {**theirs["metadata"], "annotations": {STRATEGY_ANNOTATION: "PREFIX_CACHE"}}
    kinds.write(tmp_path / "pool.yaml", {**theirs, "metadata": metadata})
    kinds.write(tmp_path / "model.yaml", kinds.model("chat", "theirs", {"tuned": 1}))
    kinds.write(tmp_path / "route.yaml", kinds.route("route", kinds.rule(kinds.to_pool("theirs"))))
    running = await start(tmp_path)
    served = set()
    for number in range(6):
        # Longer than one message, and the model is renamed at its end.
        messages = [{"role": "user", "content": f"{number} " * 100_000}]
        for stream in (False, True):
            status, headers, body = await ask(running, {}, messages=messages, model="chat", stream=stream)
            assert status == 200, body
            assert b'"model":"tuned"' in body
            line = await running.handled(headers["x-request-id"])
            assert (line["pool"], line["model"], line["target_model"]) == ("default/theirs", "chat", "tuned")
            assert line["pod_served"] == line["pod_picked"] == f"default/{headers['x-simulated-pod']}"
            assert line["details"] == "via_upstream"
            # The second time the prompt is where it was the first time.
            assert (line["cached"] == 0.0) is not stream
            served.add(line["pod_served"])
    assert len(served) > 1
    addresses = [
        each["status"]["podIP"] for each in running.simulated() if each["metadata"]["labels"]["app"] == "chooser"
    ]
    async with grpc.aio.insecure_channel(f"{addresses[0]}:9003") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
    # Without its Deployment nobody picks; FailClose means what it says.
    (tmp_path / "picker.yaml").write_text("")
    kinds.write(tmp_path / "service.yaml", epp("chooser", "theirs")[1])

    async def is_refused() -> bool:
        return (await ask(running, {}, model="chat"))[0] >= 500

    await until(is_refused, 10)
    kinds.write(tmp_path / "picker.yaml", epp("chooser", "theirs")[0])

    async def is_back() -> bool:
        return (await ask(running, {}, model="chat"))[0] == 200

    await until(is_back, 20)


async def test_what_another_picker_s_requests_took_is_measured_all_the_same(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    async with oracle() as other:
        service = kinds.picker_service("oracle", protocol="kubernetes.io/h2c")
        kinds.write(tmp_path / "picker.yaml", service, kinds.picker_slice("oracle", other.port))
        kinds.write(tmp_path / "pool.yaml", kinds.picked_pool("theirs", "chat", "oracle"))
        rule = kinds.rule(kinds.to_pool("theirs"), model="base")
        kinds.write(tmp_path / "route.yaml", kinds.route("route", rule))
        running = await start(tmp_path)
        address = next(iter((await running.pods("default/theirs")).values()))
        for options in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
            status, headers, body = await ask(running, {"x-wish": address}, **options)
            assert (status, headers["x-served"]) == (200, address), body
        assert len(other.asked) == 2
        labels = {"gateway": "default/edge", "pool": "default/theirs"}

        async def measured() -> bool:
            samples = await scrape(running)
            output = samples.total("gen_ai_client_token_usage_sum", **labels, gen_ai_token_type="output")  # noqa: S106
            first = samples.total("gen_ai_server_time_to_first_token_seconds_count", **labels)
            requests = samples.total("pointsman_picker_requests_total", pool="default/theirs", status="200")
            return (output, first, requests) == (6, 1, 2)

        await until(measured, 10)
