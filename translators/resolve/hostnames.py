"""Hostnames of listeners and routes: which of them meet, and which is the more specific."""

from __future__ import annotations

ANY = "*"


def covers(pattern: str, hostname: str) -> bool:
    """Whether every host that `hostname` names is also named by `pattern`; both may begin with "*."."""
    if pattern in {ANY, hostname}:
        return True
    return pattern.startswith("*.") and hostname != ANY and hostname.endswith(pattern[1:]) and hostname != pattern[1:]


def meet(one: str, other: str) -> str | None:
    """Return the hosts that both name (Gateway API, HTTPRouteSpec.hostnames), or None."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def patterns(hostname: str) -> tuple[str, ...]:
    """Return every pattern that covers the hostname, itself included, the most specific first."""
    labels = hostname.removeprefix("*.").split(".") if hostname != ANY else []
    # A wildcard stands for one label at least.
    first = 0 if hostname.startswith("*.") else 1
    wildcards = ["*." + ".".join(labels[index:]) for index in range(first, len(labels))]
    return tuple(dict.fromkeys([hostname, *wildcards, ANY]))


def specificity(hostname: str) -> tuple[bool, int]:
    """Order hostnames: a whole name is more specific than a wildcard, a longer one than a shorter one."""
    if hostname == ANY:
        return (False, 0)
    return (not hostname.startswith("*."), len(hostname))
