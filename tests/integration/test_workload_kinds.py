"""Every kind of workload, simulated; and servers that somebody else runs, beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import kinds
from aiohttp import web
from running import Start

VLLM = "vllm serve /models/m --served-model-name m --port 8000"
SGLANG = "python3 -m sglang.launch_server --model-path /models/m --served-model-name m --port 8000 --enable-metrics"
METRICS = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"


def template(app: str, command: str = VLLM, **labels: str) -> dict[str, Any]:
    """A pod that needs Secrets, of which there are none."""
    token = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "none", "key": "token"}}}
    container = {
        "name": "server",
        "image": "server",
        "command": ["sh", "-c", command],
        "env": [token],
        "envFrom": [{"secretRef": {"name": "none"}}],
        "volumeMounts": [{"name": "secret", "mountPath": "/secret"}],
        "ports": [{"containerPort": 8000}],
    }
    volumes = [{"name": "secret", "secret": {"secretName": "none"}}]
    return {"metadata": {"labels": {"app": app, **labels}}, "spec": {"containers": [container], "volumes": volumes}}


def workload(api: str, kind: str, name: str, **spec: Any) -> kinds.Manifest:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}


def apps(kind: str, name: str, command: str = VLLM) -> kinds.Manifest:
    return workload(
        "apps/v1",
        kind,
        name,
        replicas=2,
        selector={"matchLabels": {"app": name}},
        template=template(name, command),
    )


GROUP = {"leaderTemplate": template("lws", role="leader"), "workerTemplate": template("lws", "ray", role="worker")}
ROLE = {"name": "one", "replicas": 2, "template": template("rbg", SGLANG)}
WORKLOADS = (
    apps("Deployment", "deployment"),
    apps("StatefulSet", "statefulset"),
    apps("ReplicaSet", "replicaset"),
    {"apiVersion": "v1", "kind": "Pod", **template("pod")} | {"metadata": {"name": "bare", "labels": {"app": "pod"}}},
    workload(
        "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "lws", replicas=2, leaderWorkerTemplate={**GROUP, "size": 2}
    ),
    workload("workloads.x-k8s.io/v1alpha1", "RoleBasedGroup", "rbg", roles=[ROLE]),
)
PODS = {"deployment": 2, "statefulset": 2, "replicaset": 2, "pod": 1, "lws": 2, "rbg": 2, "real": 1}
NOT_SIMULATED = (apps("Deployment", "sleep", "sleep infinity"), apps("DaemonSet", "agent"))


@asynccontextmanager
async def real_server() -> AsyncIterator[int]:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/metrics":
            return web.Response(text=METRICS)
        return web.json_response({"model": "m", "choices": []}, headers={"x-simulated-pod": "real"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_each_kind_has_its_pods_and_each_of_them_answers(start: Start, tmp_path: Path) -> None:
    async with real_server() as port:
        kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
        kinds.write(tmp_path / "workloads.yaml", *WORKLOADS, *NOT_SIMULATED)
        # No more than its address need be said of a pod that somebody else runs.
        metadata = {"name": "real", "labels": {"app": "real"}}
        real = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": "127.0.0.1"}}
        slices = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "outside-1", "labels": {"kubernetes.io/service-name": "outside"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        }
        service = workload("v1", "Service", "outside", ports=[{"name": "http", "port": 8000}])
        kinds.write(tmp_path / "real.yaml", real, slices, service)
        pools = {name: dict(kinds.pool(name, name, port=port if name == "real" else 8000)) for name in PODS}
        pools["lws"]["spec"] = {**pools["lws"]["spec"], "selector": {"app": "lws", "role": "leader"}}
        kinds.write(tmp_path / "pools.yaml", *pools.values())
        rules = [kinds.rule(kinds.to_pool(name), headers={"pool": name}) for name in PODS]
        rules.append(kinds.rule(kinds.to_service("outside"), headers={"pool": "outside"}))
        kinds.write(tmp_path / "route.yaml", kinds.route("route", *rules))
        running = await start(tmp_path)
        assert (await running.report())["problems"] == []
        for name, count in PODS.items():
            pods = await running.pods(f"default/{name}")
            assert len(pods) == count, (name, pods)
            served = set()
            for _ in range(20):
                response = await running.session.post(
                    f"{running.url}/v1/chat/completions",
                    json={"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
                    headers={"pool": name},
                )
                assert response.status == 200, (name, await response.text())
                served.add(f"default/{response.headers['x-simulated-pod']}")
            assert served <= pods.keys()
        response = await running.session.get(f"{running.url}/anything", headers={"pool": "outside"})
        assert response.status == 200
        told = [f"{line.event} {line.fields}" for line in running.lines if line.process == "simulator"]
        for name in ("Deployment default/sleep", "DaemonSet default/agent"):
            assert any(f"{name}: not simulated: " in line for line in told), (name, told)
