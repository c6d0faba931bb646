"""What filters do to requests and answers, through real Envoy."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import kinds
import pytest
import pytest_asyncio
from running import Running, Start
from witness import witness

pytestmark = pytest.mark.asyncio(loop_scope="module")


def match(prefix: str, **more: object) -> list[kinds.Manifest]:
    return [{"path": {"value": prefix}, **more}]


def rule(prefix: str, *filters: kinds.Manifest, backends: list[kinds.Manifest] | None = None) -> kinds.Manifest:
    refs = [kinds.to_service("web")] if backends is None else backends
    return {"matches": match(prefix), "filters": list(filters), "backendRefs": refs}


def request_headers(**changes: object) -> kinds.Manifest:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": changes}


def response_headers(**changes: object) -> kinds.Manifest:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": changes}


def rewrite(**changes: object) -> kinds.Manifest:
    return {"type": "URLRewrite", "urlRewrite": changes}


def redirect(prefix: str, **where: object) -> kinds.Manifest:
    return rule(prefix, {"type": "RequestRedirect", "requestRedirect": where}, backends=[])


def header(name: str, value: str) -> kinds.Manifest:
    return {"name": name, "value": value}


def whole(path: str) -> kinds.Manifest:
    return {"type": "ReplaceFullPath", "replaceFullPath": path}


def prefix(path: str) -> kinds.Manifest:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": path}


def share(name: str, weight: int) -> kinds.Manifest:
    """A backend's share, which tells the backend so."""
    return {
        **kinds.to_service("web", weight=weight),
        "filters": [
            request_headers(set=[header("x-who", name), header("x-share", name)], remove=["x-gone"]),
            response_headers(set=[header("x-by", name)]),
        ],
    }


CORS = {
    "type": "CORS",
    "cors": {
        "allowOrigins": ["https://www.example.com", "https://*.example.org"],
        "allowMethods": ["GET", "POST"],
        "allowHeaders": ["x-a"],
        "allowCredentials": True,
    },
}
CORS_FOR_ALL = {"type": "CORS", "cors": {"allowOrigins": ["*"], "allowMethods": ["*"], "allowCredentials": True}}

HEADERS = [
    rule(
        "/headers",
        request_headers(
            set=[header("X-Set", "100% %REQ(:path)%")],
            add=[header("X-Add", "two")],
            remove=["X-Remove"],
        ),
        response_headers(set=[header("X-Witness", "changed")], add=[header("x-more", "1")], remove=["content-type"]),
    ),
    rule(
        "/shares",
        request_headers(set=[header("x-who", "rule"), header("x-gone", "rule"), header("x-kept", "rule")]),
        backends=[share("one", 1), share("two", 1)],
    ),
]
REWRITES = [
    rule("/host", rewrite(hostname="inner.example.com")),
    rule("/whole", rewrite(path=whole("/50%25"))),
    rule("/foo", rewrite(path=prefix("/xyz"))),
    rule("/slash", rewrite(path=prefix("/xyz/"))),
    rule("/bar/", rewrite(path=prefix("/xyz"))),
    rule("/empty", rewrite(path=prefix(""))),
    rule("/root", rewrite(path=prefix("/"))),
]
REDIRECTS = [
    redirect("/to-host", hostname="example.org", statusCode=301),
    redirect("/to-scheme", scheme="https", hostname="example.org", statusCode=308),
    redirect("/to-port", port=8443, statusCode=303),
    redirect("/to-path", path=whole("/there"), statusCode=307),
    redirect("/to-prefix", path=prefix("/other/")),
    redirect("/to-nothing", path=prefix("")),
]
BY_MODEL = kinds.rule(kinds.to_pool("chat"), model="base", filters=[CORS])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder: Path = tmp_path_factory.mktemp("filters")
    async with witness() as port:
        kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
        kinds.write(folder / "web.yaml", *kinds.served_at("web", "127.0.0.1", port))
        kinds.write(
            folder / "routes.yaml",
            kinds.route("headers", *HEADERS),
            kinds.route("rewrites", *REWRITES),
            kinds.route("redirects", *REDIRECTS),
            kinds.route("cors", rule("/cors", CORS), rule("/any", CORS_FOR_ALL)),
        )
        kinds.write(
            folder / "models.yaml",
            kinds.pool("chat", "chat"),
            kinds.deployment("chat", "--served-model-name base"),
            kinds.route("models", BY_MODEL, hostnames=["models.example"]),
        )
        yield await start_shared(folder)


async def ask(running: Running, path: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{running.url}{path}"
    async with running.session.request(method, url, headers=named, allow_redirects=False) as response:
        text = await response.text()
        return response.status, response.headers, json.loads(text) if text.startswith("{") else text


async def seen(running: Running, path: str, **headers: str) -> tuple[str, dict[str, str]]:
    """Return the path and the headers that reached the backend; values of one name are joined by a comma."""
    status, _, testimony = await ask(running, path, **headers)
    assert status == 200, testimony
    joined: dict[str, str] = {}
    for name, value in testimony["headers"]:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return testimony["path"], joined


async def test_headers_of_requests(running: Running) -> None:
    _, headers = await seen(running, "/headers", x_set="one", x_add="one", x_remove="one", x_other="one")
    assert headers["x-set"] == "100% %REQ(:path)%"
    assert headers["x-add"] == "one,two"
    assert headers["x-other"] == "one"
    assert "x-remove" not in headers


async def test_headers_of_answers(running: Running) -> None:
    _, headers, _ = await ask(running, "/headers")
    assert (headers["x-witness"], headers["x-more"]) == ("changed", "1")
    assert "content-type" not in headers


async def test_a_backend_s_headers_come_after_the_rule_s(running: Running) -> None:
    by_whom = set()
    for _ in range(40):
        status, headers, testimony = await ask(running, "/shares")
        assert status == 200
        sent = dict(testimony["headers"])
        by_whom.add(headers["x-by"])
        assert sent["x-who"] == sent["x-share"] == headers["x-by"]
        assert sent["x-kept"] == "rule"
        assert "x-gone" not in sent
    assert by_whom == {"one", "two"}


@pytest.mark.parametrize(
    ("path", "rewritten"),
    [
        ("/whole/a/b?q=1", "/50%25?q=1"),
        ("/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz"),
        ("/foo/", "/xyz/"),
        ("/foo/bar?q=/foo", "/xyz/bar?q=/foo"),
        ("/slash/bar", "/xyz/bar"),
        ("/bar/bar", "/xyz/bar"),
        ("/empty/bar", "/bar"),
        ("/empty/", "/"),
        ("/empty", "/"),
        ("/empty?q=1", "/?q=1"),
        ("/root/bar", "/bar"),
        ("/root/", "/"),
        ("/root", "/"),
    ],
)
async def test_paths_are_rewritten(running: Running, path: str, rewritten: str) -> None:
    found, headers = await seen(running, path)
    assert found == rewritten
    assert not [name for name in headers if name.startswith("x-envoy-original")]


async def test_a_host_is_rewritten(running: Running) -> None:
    _, headers = await seen(running, "/host", host="outer.example.com")
    assert headers["host"] == "inner.example.com"


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/to-host/a?q=1", 301, "http://example.org:PORT/to-host/a?q=1"),
        ("/to-scheme/a", 308, "https://example.org/to-scheme/a"),
        ("/to-port/a", 303, "http://a.example.com:8443/to-port/a"),
        ("/to-path/a?q=1", 307, "http://a.example.com:PORT/there?q=1"),
        ("/to-prefix", 302, "http://a.example.com:PORT/other"),
        ("/to-prefix/a/b?q=1", 302, "http://a.example.com:PORT/other/a/b?q=1"),
        ("/to-nothing", 302, "http://a.example.com:PORT/"),
        ("/to-nothing/a", 302, "http://a.example.com:PORT/a"),
    ],
)
@pytest.mark.parametrize("host", ["a.example.com", "a.example.com:PORT"])
async def test_redirects(running: Running, path: str, status: int, location: str, host: str) -> None:
    found, headers, _ = await ask(running, path, host=host.replace("PORT", str(running.port)))
    assert (found, headers["location"]) == (status, location.replace("PORT", str(running.port)))


class TestCors:
    async def test_a_preflight_is_answered_by_the_gateway(self, running: Running) -> None:
        status, headers, _ = await ask(
            running, "/cors", "OPTIONS", origin="https://a.b.example.org", access_control_request_method="POST"
        )
        assert status == 200
        assert "x-witness" not in headers
        assert {name: headers[f"access-control-{name}"] for name in ("allow-origin", "allow-methods", "max-age")} == {
            "allow-origin": "https://a.b.example.org",
            "allow-methods": "GET, POST",
            "max-age": "5",
        }
        assert headers["access-control-allow-credentials"] == "true"

    async def test_another_origin_is_told_nothing(self, running: Running) -> None:
        for method in ("OPTIONS", "GET"):
            status, headers, _ = await ask(
                running, "/cors", method, origin="https://example.org", access_control_request_method="GET"
            )
            assert status == 200
            assert "access-control-allow-origin" not in headers

    async def test_a_request_goes_through_and_its_answer_may_be_read(self, running: Running) -> None:
        status, headers, _ = await ask(running, "/cors", origin="https://www.example.com")
        assert (status, headers["x-witness"]) == (200, "yes")
        assert headers["access-control-allow-origin"] == "https://www.example.com"

    async def test_with_credentials_a_star_becomes_what_is_asked_for(self, running: Running) -> None:
        _, headers, _ = await ask(
            running, "/any", "OPTIONS", origin="http://a.test", access_control_request_method="PUT"
        )
        assert headers["access-control-allow-origin"] == "http://a.test"
        assert headers["access-control-allow-methods"] == "PUT"

    async def test_a_page_may_ask_a_model(self, running: Running) -> None:
        named = {"host": "models.example", "origin": "https://www.example.com"}
        preflight = {**named, "access-control-request-method": "POST", "access-control-request-headers": "x-a"}
        url = f"{running.url}/v1/chat/completions"
        async with running.session.options(url, headers=preflight) as response:
            assert (response.status, response.headers["access-control-allow-methods"]) == (200, "GET, POST")
        body = {"model": "base", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        async with running.session.post(url, headers=named, json=body) as response:
            assert response.status == 200
            assert response.headers["access-control-allow-origin"] == "https://www.example.com"
            assert "x-simulated-pod" in response.headers
