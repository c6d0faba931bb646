"""A body that is held may be as long as bufferLimit says, to the byte; a body that streams through may be longer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from shop import LIMIT, LONGEST_NAME, MEBIBYTE, Shop, sized

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Who holds the body: model, hostname, what the server gets more than was sent.
HELD = {
    "the search for the model": ("witness", "models.example", 0),
    "search and picker": ("renamed", "models.example", len(LONGEST_NAME.encode()) - len("renamed")),
    "picker": ("renamed", "path.example", len(LONGEST_NAME.encode()) - len("renamed")),
    "picker, to shorten the name": ("shortened", "path.example", len("s") - len("shortened")),
}


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), MEBIBYTE):
        yield body[start : start + MEBIBYTE]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize(("model", "host", "more"), HELD.values(), ids=HELD.keys())
async def test_a_held_body(shop: Shop, model: str, host: str, more: int, *, chunked: bool) -> None:
    for length in (LIMIT, LIMIT + 1):
        body = sized(model, length)
        answer = await shop.send(chunks(body) if chunked else body, host=host)
        if length > LIMIT:
            assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        else:
            seen = answer.testimony
            assert seen.length == length + more
            assert seen.header("content-length") == [str(seen.length)]
            assert more or seen.saw(body)


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_multipart_body_is_held_too(shop: Shop, *, chunked: bool) -> None:
    """A rule with a model may come after, and would find it held."""
    for length, status in ((LIMIT, 400), (LIMIT + 1, 413)):
        body = bytes(length)
        answer = await shop.send(chunks(body) if chunked else body, headers={"content-type": "multipart/mixed"})
        assert (answer.status, answer.error["type"]) == (status, "invalid_request_error")


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize(("host", "path"), [("models.example", "/plain"), ("path.example", "/bare")])
async def test_a_body_that_nobody_holds(shop: Shop, host: str, path: str, *, chunked: bool) -> None:
    body = sized("beta", LIMIT + MEBIBYTE)
    answer = await shop.send(chunks(body) if chunked else body, host=host, path=path)
    assert answer.testimony.saw(body)


async def test_http2(shop: Shop, tmp_path: Path) -> None:
    for length, status in ((LIMIT, "200"), (LIMIT + 1, "413")):
        file = tmp_path / "body"
        file.write_bytes(sized("witness", length))
        process = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--http2-prior-knowledge", "--header", "host: models.example", "--data-binary"),
            *(f"@{file}", "--output", str(tmp_path / "answer"), "--write-out", "%{http_code} %{http_version}"),
            shop.url,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert output.decode().split() == [status, "2"]
