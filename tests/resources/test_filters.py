"""HTTPRoute's filters: what they decode to, and which combinations are refused as the API server refuses them."""

from typing import Any

import pytest

from resources import DecodeError, HTTPRoute, HTTPRouteRule, decode

Document = dict[str, Any]
TO_A = {"name": "a", "port": 1}
EXACT = {"path": {"type": "Exact", "value": "/a"}}


def document(rule: Document) -> Document:
    api = "gateway.networking.k8s.io/v1"
    return {"apiVersion": api, "kind": "HTTPRoute", "metadata": {"name": "it"}, "spec": {"rules": [rule]}}


def decoded(rule: Document) -> tuple[HTTPRouteRule, tuple[str, ...], tuple[str, ...]]:
    found = decode(document(rule))
    assert isinstance(found.object, HTTPRoute)
    return found.object.spec.rules[0], found.object.unbuilt, found.ignored


def headers(**changes: object) -> Document:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": changes}


def redirect(**changes: object) -> Document:
    return {"type": "RequestRedirect", "requestRedirect": changes}


def rewrite(**changes: object) -> Document:
    return {"type": "URLRewrite", "urlRewrite": changes}


def cors(**allowed: object) -> Document:
    return {"type": "CORS", "cors": allowed}


PREFIX = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}


def test_filters_of_every_type_that_is_built() -> None:
    filters = [
        headers(set=[{"name": "a", "value": "b"}], remove=["c"]),
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "a", "value": "b"}]}},
        rewrite(hostname="b.example.com", path=PREFIX),
        cors(allowOrigins=["https://*.example.com", "http://a:8080"], allowMethods=["GET"], maxAge=60),
        {"type": "RequestMirror", "requestMirror": {"backendRef": TO_A}},
        {"type": "RequestMirror", "requestMirror": {"backendRef": TO_A}},
    ]
    rule, unbuilt, ignored = decoded({"filters": filters, "backendRefs": [TO_A]})
    assert (unbuilt, ignored) == ((), ())
    assert rule.filters[2].path is not None
    assert rule.filters[3].cors is not None
    assert (rule.filters[3].cors.max_age, rule.filters[3].cors.allow_credentials) == (60, False)


def test_a_redirect_is_found_unless_it_says_otherwise() -> None:
    rule, _, _ = decoded({"filters": [redirect()]})
    assert rule.filters[0].request_redirect is not None
    assert rule.filters[0].request_redirect.status_code == 302


def test_only_headers_are_changed_for_one_backend() -> None:
    filters = [headers(remove=["a"]), rewrite(hostname="a.example.com")]
    _, unbuilt, _ = decoded({"backendRefs": [{**TO_A, "filters": filters}]})
    assert unbuilt == ("spec.rules[0].backendRefs[0].filters[1]",)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"filters": [{"type": "URLRewrite"}]}, "filters[0].urlRewrite: must be set if the type is URLRewrite"),
        ({"filters": [{**redirect(), "urlRewrite": {}}]}, "filters[0].urlRewrite: must be set if the type is URLRew"),
        ({"filters": [headers(), headers()]}, "filters[1]: the filter RequestHeaderModifier stands twice"),
        ({"filters": [redirect(), rewrite()]}, "filters[1]: only one of RequestRedirect and URLRewrite"),
        ({"filters": [redirect()], "backendRefs": [TO_A]}, "filters[0]: a rule with RequestRedirect must have no back"),
        ({"backendRefs": [{**TO_A, "filters": [headers(), headers()]}]}, "backendRefs[0].filters[1]: the filter Req"),
        ({"filters": [headers(set=[{"name": "a b", "value": "c"}])]}, "filters[0].requestHeaderModifier.set[0].name: "),
        ({"filters": [headers(set=[{"name": "a", "value": "b"}] * 2)]}, "filters[0].requestHeaderModifier.set: a stan"),
        ({"filters": [headers(remove=["a", "a"])]}, "filters[0].requestHeaderModifier.remove: a stands twice"),
        ({"filters": [redirect(statusCode=300)]}, "filters[0].requestRedirect.statusCode: expected one of 301, 302,"),
        ({"filters": [redirect(scheme="ftp")]}, "filters[0].requestRedirect.scheme: expected one of http, https; got"),
        ({"filters": [redirect(hostname="*.a")]}, "filters[0].requestRedirect.hostname: expected a DNS name"),
        ({"filters": [redirect(port=0)]}, "filters[0].requestRedirect.port: expected int >= 1"),
        (
            {"filters": [rewrite(path={"type": "ReplaceFullPath"})]},
            "filters[0].urlRewrite.path.replaceFullPath: must be set if",
        ),
        (
            {"filters": [rewrite(path=PREFIX)], "matches": [EXACT]},
            "filters[0].urlRewrite.path: ReplacePrefixMatch needs just one match, with a path of type PathPrefix",
        ),
        (
            {"filters": [redirect(path=PREFIX)], "matches": [{}, {}]},
            "filters[0].requestRedirect.path: ReplacePrefixMatch needs just one match",
        ),
        ({"filters": [cors(allowOrigins=["*", "https://a"])]}, "filters[0].cors.allowOrigins: '*' must stand alone"),
        ({"filters": [cors(allowOrigins=["a.example.com"])]}, "filters[0].cors.allowOrigins[0]: expected an origin"),
        ({"filters": [cors(allowMethods=["get"])]}, "filters[0].cors.allowMethods[0]: expected one of *, CONNECT"),
        ({"filters": [cors(maxAge=0)]}, "filters[0].cors.maxAge: expected int >= 1"),
    ],
)
def test_what_the_api_server_refuses(rule: Document, complaint: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(document(rule))
    assert str(caught.value).startswith(f"HTTPRoute default/it: spec.rules[0].{complaint}")
