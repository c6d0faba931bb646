"""`up --verbose` writes out every decision: who could have served, at what cost, and why it is the one that it is."""

from pathlib import Path
from typing import Any

import kinds
from picker_metrics import scrape
from running import Running, Start, until


async def test_decisions_are_explained_in_the_log_and_counted_by_reason(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(tmp_path / "servers.yaml", kinds.deployment("chat", "--served-model-name base", replicas=3))
    kinds.write(tmp_path / "pool.yaml", kinds.pool("chat", "chat"))
    kinds.write(tmp_path / "route.yaml", kinds.route("route", kinds.rule(kinds.to_pool("chat"))))
    running = await start(tmp_path, verbose=True)
    pods = await running.pods("default/chat")
    response = await running.chat("base")
    assert response.status == 200
    line = await running.handled(response.headers["x-request-id"])

    async def explained() -> bool:
        return bool(explanations(running))

    await until(explained, 10)
    (explanation,) = explanations(running)
    candidates = explanation["candidates"]
    assert {each["pod"] for each in candidates} == pods.keys()
    assert line["pod_picked"] in {each["pod"] for each in candidates}
    for each in candidates:
        assert each["address"] == pods[each["pod"]]
        costs = {name: cost for name, cost in each.items() if name not in {"pod", "address", "cost"}}
        assert costs.keys() >= {"queue", "kv_cache", "occupancy", "prefill"}
        assert abs(sum(costs.values()) - each["cost"]) < 0.01
    assert explanation["reason"] in str(line["reason"])
    counted = (await scrape(running)).by("reason", "pointsman_picker_decisions_total", pool="default/chat")
    assert counted == {explanation["reason"]: 1}


def explanations(running: Running) -> list[dict[str, Any]]:
    return [dict(line.fields) for line in running.lines if line.event == "Pod Picked"]
