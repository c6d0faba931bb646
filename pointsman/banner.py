"""What `up` prints: each gateway at the start, and what is different later.  Pure: /status in, lines out."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]

_QUESTION = "who are you?"


def banner(report: Report) -> Iterator[str]:
    """Yield the lines that describe every gateway: where it is, what is behind it, and a request to paste."""
    for gateway in report["gateways"]:
        yield f"Gateway {gateway['gateway']}"
        for listener in gateway["listeners"]:
            yield f"  {listener_line(listener)}"
        for pool in gateway["pools"]:
            yield f"  pool {pool['name']}: {_models(pool['models'])}"
            if not pool["pods"]:
                yield "    no ready pods"
            for pod in pool["pods"]:
                yield f"    pod {pod_line(pod)}"
        if gateway["listeners"]:
            yield "  try"
            yield f"    {curl(gateway)}"
    if not report["gateways"]:
        yield "no Gateway in this folder"
    yield from (f"problem: {line}" for line in problems(report))
    yield from (f"note: {line}" for line in report["notices"])


def problems(report: Report) -> list[str]:
    """Return everything that is wrong, one line each: in the manifests, in Envoy's eyes, and in ourselves."""
    listeners = _listeners(report)
    refused = [
        f"{nack['object']}: {listeners.get(nack['name'], '')}{nack['node']} refuses {nack['name']}: {nack['message']}"
        for nack in report["nacks"]
    ]
    trouble = [f"a bug, the last good configuration stays: {report['trouble']}"] if report["trouble"] else []
    return list(dict.fromkeys([*report["problems"], *refused, *trouble]))


def _listeners(report: Report) -> dict[str, str]:
    """Name the listeners of each port, by what the port is called for Envoy: a port that is taken is refused there."""
    found: dict[str, str] = {}
    for gateway in report["gateways"]:
        for listener in gateway["listeners"]:
            name = f"{gateway['gateway']}/{listener['moved_from'] or listener['port']}"
            found[name] = found.get(name, "") + f"listener {listener['name']}: "
    return found


def changes(before: Report, after: Report) -> Iterator[str]:
    """Yield a line for everything that appeared or went: listeners, pools, pods, models, problems, notes."""
    old, new = _facts(before), _facts(after)
    yield from (f"gone: {fact}" for fact in old if fact not in new)
    yield from (f"new: {fact}" for fact in new if fact not in old)
    solved, wrong = problems(before), problems(after)
    yield from (f"solved: {line}" for line in solved if line not in wrong)
    yield from (f"problem: {line}" for line in wrong if line not in solved)
    yield from (f"note: {line}" for line in after["notices"] if line not in before["notices"])


def _facts(report: Report) -> list[str]:
    return [
        fact
        for gateway in report["gateways"]
        for fact in (
            *(f"Gateway {gateway['gateway']}: {listener_line(listener)}" for listener in gateway["listeners"]),
            *(f"pool {pool['name']}: {_models(pool['models'])}" for pool in gateway["pools"]),
            *(f"pool {pool['name']}: pod {pod_line(pod)}" for pool in gateway["pools"] for pod in pool["pods"]),
        )
    ]


def listener_line(listener: Mapping[str, Any]) -> str:
    """Return "listener llm-gw: http://127.0.0.1:8080", with its hostnames and why its port is another."""
    hostnames = f" for {', '.join(listener['hostnames'])}" if listener["hostnames"] else ""
    moved = f" (port {listener['moved_from']} may not be bound here)" if listener["moved_from"] else ""
    return f"listener {listener['name']}: {url(listener)}{hostnames}{moved}"


def url(listener: Mapping[str, Any]) -> str:
    """Return the listener's URL as a client on this machine writes it."""
    return f"{'https' if listener['tls'] else 'http'}://{_place(listener)}"


def _place(listener: Mapping[str, Any]) -> str:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener["address"], listener["address"])  # noqa: S104 - compared
    return f"[{address}]:{listener['port']}" if ":" in address else f"{address}:{listener['port']}"


def pod_line(pod: Mapping[str, Any]) -> str:
    """Return a pod's name and address."""
    return f"{pod['name']} {pod['address']}".strip()


def curl(gateway: Mapping[str, Any]) -> str:
    """Return a command line that asks a model of the gateway's a question, or its first listener for anything."""
    # The most general hostname first: it needs no header.
    hosts = sorted(gateway["hosts"], key=lambda host: host["hostname"] != "*")
    listener, hostnames = gateway["listeners"][0], gateway["listeners"][0]["hostnames"]
    if hosts:
        listener = next(each for each in gateway["listeners"] if each["port"] == hosts[0]["port"])
        hostnames = [hosts[0]["hostname"]]
    host = hostnames[0].replace("*", "any") if hostnames and hostnames[0] != "*" else ""
    path = "/v1/chat/completions" if hosts else ""
    if listener["tls"]:
        # The certificate is the folder's own. A host is named in the handshake too, so it stands in the URL.
        to_host = ["--connect-to", f"::{_place(listener)}", f"https://{host}{path}"]
        words = ["curl", "-k", *(to_host if host else [url(listener) + path])]
    else:
        words = ["curl", url(listener) + path, *(["-H", f"host: {host}"] if host else [])]
    if hosts:
        body = {"model": hosts[0]["models"][0], "messages": [{"role": "user", "content": _QUESTION}]}
        words += ["-H", "content-type: application/json", "-d", json.dumps(body, ensure_ascii=False)]
    return shlex.join(words)


def _models(models: list[str]) -> str:
    return f"models {', '.join(models)}" if models else "no models"
