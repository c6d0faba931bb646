"""Measure the encoder beside `bytes(message)`: a RouteConfiguration with routes of about 12 messages each.

Prints one line for each way, in microseconds a route, and the ratio between them.
"""

import sys
import time
from collections.abc import Callable
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds import encode


def route(number: int) -> Route:
    """Build a route with a header match, two weighted clusters and a header to add."""
    weights = [
        WeightedClusterClusterWeight(name=f"pool-{number}-{share}", weight=50, request_headers_to_remove=["x-a"])
        for share in range(2)
    ]
    matcher = HeaderMatcher(name="x-gateway-model-name", string_match=StringMatcher(exact=f"model-{number}"))
    header = HeaderValueOption(header=HeaderValue(key="x-route", value=str(number)))
    return Route(
        name=f"default/route-{number}/rule/0/match/0",
        match=RouteMatch(prefix="/v1/", headers=[matcher]),
        route=RouteAction(weighted_clusters=WeightedCluster(clusters=weights), timeout=timedelta(hours=24)),
        request_headers_to_add=[header],
    )


def configuration(routes: list[Route]) -> RouteConfiguration:
    """Put routes into one virtual host."""
    return RouteConfiguration(name="routes", virtual_hosts=[VirtualHost(name="all", domains=["*"], routes=routes)])


def microseconds(work: Callable[[], object], count: int) -> float:
    """Time some work once, and divide by a count."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6 / count


def main(count: int = 10_000, sample: int = 300) -> None:
    """Print the figures for `count` routes; `bytes(message)` is measured on fewer."""
    build = microseconds(lambda: configuration([route(number) for number in range(count)]), count)
    routes = [route(number) for number in range(count)]
    # The classes' plans are made once.
    encode(configuration([route(-1)]))
    whole = configuration(routes)
    cold = microseconds(lambda: encode(whole), count)
    changed = configuration([*routes[:-1], route(count)])
    warm = microseconds(lambda: encode(changed), count)
    few = configuration(routes[:sample])
    slow = microseconds(lambda: bytes(few), sample)
    print(f"build                        {build:9.1f} us a route")
    print(f"bytes(message)               {slow:9.1f} us a route")
    print(f"encode                       {cold:9.1f} us a route   {slow / cold:9.0f} times faster")
    print(f"encode, one route changed    {warm:9.2f} us a route   {slow / warm:9.0f} times faster")
    print(f"                             {warm * count / 1000:9.1f} ms in all for {count} routes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
