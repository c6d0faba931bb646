"""Finding out for ourselves whether a suspected pod works.

A failed attempt makes a pod suspect, never avoided: the request's own content may have caused the failure (a prompt
that makes the server reset the connection, a field it answers with 503), and then every pod would fail it in turn,
and one client could put a whole pool on the avoided list.  So a suspicion only makes us ask the pod ourselves, at
once, with content of our own:

1. ``GET /health`` and ``GET /metrics``: is anybody there, and does it call itself well?
2. a completion of one token, for a model that the pod itself lists: does it really serve?

A refused or reset connection, a 502, 503 or 504, or no answer in time makes the pod avoided; it is asked again twice
a second until it answers.  Everything else (a 400, a 404, a 500 for our prompt) says that somebody is serving there.
A pod that has requests waiting or running may well let ours wait too: there a completion that takes long says
nothing.

At most one probe runs for each pod, and after a good one the next waits a third of a second however many suspicions
there are: the probes of a pod cost it about three tokens a second at worst.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from picker.http_client import Answer, Connection, was_late
from picker.table import Endpoint

_UNAVAILABLE = (502, 503, 504)
_SERVER_ERROR = 500
_OK = 200
_COMPLETIONS = "/v1/completions"
_CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class ProbeTimes:
    """Seconds: the bounds of a probe's questions, and the pauses after a bad and a good one.

    `idle_completion` bounds the completion on a pod that says it is idle; `completion` on one that says nothing.
    """

    answer: float = 1.0
    idle_completion: float = 0.8
    completion: float = 3.0
    retry: float = 0.5
    pause: float = 0.3


@dataclass(slots=True)
class _Suspicion:
    path: str
    again: bool = False


class Prober:
    """Runs the probes.  `changed(endpoint, reason)` is called when one makes or ends an endpoint's being avoided."""

    def __init__(self, changed: Callable[[Endpoint, str], None], times: ProbeTimes | None = None) -> None:
        self._changed = changed
        self._times = times or ProbeTimes()
        self._running: dict[Endpoint, tuple[_Suspicion, asyncio.Task[None]]] = {}

    def suspect(self, endpoint: Endpoint, path: str = "") -> None:
        """Have the endpoint probed; `path` is the failed request's, of which only a known API's name is used."""
        running = self._running.get(endpoint)
        if running is not None:
            running[0].again = True
            return
        suspicion = _Suspicion(path.partition("?")[0])
        task = asyncio.get_running_loop().create_task(self._examine(endpoint, suspicion))
        self._running[endpoint] = (suspicion, task)

    def forget(self, endpoint: Endpoint) -> None:
        """Stop probing an endpoint that is gone."""
        running = self._running.pop(endpoint, None)
        if running is not None:
            running[1].cancel()

    async def close(self) -> None:
        """End all probes."""
        tasks = [task for _, task in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _examine(self, endpoint: Endpoint, suspicion: _Suspicion) -> None:
        try:
            while True:
                suspicion.again = False
                failure = await self.probe(endpoint, suspicion.path)
                if endpoint.mark_failing(failing=bool(failure)):
                    self._changed(endpoint, failure)
                if failure:
                    await asyncio.sleep(self._times.retry)
                    continue
                await asyncio.sleep(self._times.pause)
                if not suspicion.again:
                    return
        finally:
            if self._running.get(endpoint, (None,))[0] is suspicion:
                del self._running[endpoint]

    async def probe(self, endpoint: Endpoint, path: str = "") -> str:
        """Ask the pod; "" when it serves, else what is wrong."""
        connection = Connection(endpoint.address)
        question = "/health"
        try:
            async with asyncio.timeout(self._times.answer) as bound:
                health = await connection.get(question)
                if health.status >= _SERVER_ERROR:
                    return f"{question} answers {health.status}"
                question = "/metrics"
                metrics = await connection.get(question)
                if metrics.status >= _SERVER_ERROR:
                    return f"{question} answers {metrics.status}"
                question = "/v1/models"
                models = await connection.get(question)
                if models.status in _UNAVAILABLE:
                    return f"{question} answers {models.status}"
            model = _first_model(models)
            return await self._complete(connection, endpoint, model, path) if model else ""
        except TimeoutError:
            return "" if was_late(bound) else f"no answer to {question} within {self._times.answer} s"
        except OSError as error:
            return f"{question}: {error}"
        finally:
            connection.close()

    async def _complete(self, connection: Connection, endpoint: Endpoint, model: str, path: str) -> str:
        idle = endpoint.reported and not endpoint.waiting and not endpoint.running
        bound = self._times.idle_completion if idle else self._times.completion
        paths = (_CHAT, _COMPLETIONS) if path == _CHAT else (_COMPLETIONS, _CHAT)
        try:
            async with asyncio.timeout(bound) as ends:
                for question in paths:
                    answer = await connection.post(question, _completion(question, model))
                    if answer.status in _UNAVAILABLE:
                        return f"{question} answers {answer.status}"
                    if answer.status == _OK:
                        break
        except TimeoutError:
            counts = (idle or not endpoint.reported) and not was_late(ends)
            return f"no completion within {bound} s" if counts else ""
        return ""


def _first_model(answer: Answer) -> str:
    if answer.status != _OK:
        return ""
    try:
        return str(orjson.loads(answer.body)["data"][0]["id"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""


def _completion(path: str, model: str) -> bytes:
    prompt: dict[str, object] = {"messages": [{"role": "user", "content": "1"}]} if path == _CHAT else {"prompt": "1"}
    return orjson.dumps({"model": model, "max_tokens": 1, **prompt})
