"""A gateway that many tests send requests to and that none of them changes."""

import hashlib
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from running import Running

MEBIBYTE = 2**20
LIMIT = 20 * MEBIBYTE
"""The bufferLimit of the shop's ClientTrafficPolicy, in bytes."""

LONGEST_NAME = "🚂" * 253
"""What the model `renamed` becomes: no name of a target may be longer."""


@dataclass(frozen=True)
class Testimony:
    """What reached the witness; `headers` in lower case, in order."""

    method: str
    path: str
    headers: list[list[str]]
    length: int
    digest: str
    body: str | None

    def header(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for each, value in self.headers if each == name]

    def saw(self, body: bytes) -> bool:
        """Whether this very body reached the witness."""
        return self.digest == hashlib.blake2b(body).hexdigest()


@dataclass(frozen=True)
class Answer:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def pod(self) -> str:
        """The simulated pod that answered, without what its name was made unique with."""
        assert self.status == 200, (self.status, self.body)
        return self.headers["x-simulated-pod"].rsplit("-", 2)[0]

    @property
    def testimony(self) -> Testimony:
        """What the witness says. Fails when somebody else answered."""
        assert self.headers.get("x-witness") == "yes", (self.status, self.body[:1000])
        return Testimony(**json.loads(self.body))

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's shape: nothing else in the answer, and every field there."""
        assert self.headers["content-type"] == "application/json", (self.status, self.body)
        answer = json.loads(self.body)
        assert list(answer) == ["error"]
        error: dict[str, Any] = answer["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return error


@dataclass(frozen=True)
class Shop:
    """The running gateway and how it finds the model."""

    running: Running
    finder: str

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return self.running.url

    async def send(
        self,
        body: bytes | str | AsyncIterator[bytes] | None = None,
        *,
        host: str = "models.example",
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    ) -> Answer:
        """Send a request, by default with a body of type JSON."""
        every = [("host", host), *(headers.items() if isinstance(headers, Mapping) else headers or [])]
        if body is not None and not any(name.lower() == "content-type" for name, _ in every):
            every.append(("content-type", "application/json"))
        whole = body.encode() if isinstance(body, str) else body
        data = io.BytesIO(whole) if isinstance(whole, bytes) else whole
        request = self.running.session.request(
            method, f"{self.url}{path}", data=data, headers=every, skip_auto_headers=("content-type",)
        )
        async with request as response:
            return Answer(response.status, response.headers, await response.read())

    async def chat(self, model: object, *, host: str = "models.example", **more: object) -> Answer:
        """Send a chat completion of two tokens."""
        return await self.send(chat(model, **more), host=host)

    async def envoy(self, path: str) -> bytes:
        """Ask Envoy's admin interface."""
        where = self.running.installation.envoy_admin.removeprefix("unix:")
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(where)) as session,
            session.get(f"http://envoy{path}") as response,
        ):
            return await response.read()


def chat(model: object, **more: object) -> str:
    """The body of a chat completion."""
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, **more},
        ensure_ascii=False,
    )


def sized(model: str, length: int) -> bytes:
    """The body of a chat completion, so many bytes long."""
    start, end = f'{{"model":"{model}","messages":[{{"role":"user","content":"'.encode(), b'"}],"max_tokens":1}'
    return start + b"x" * (length - len(start) - len(end)) + end
