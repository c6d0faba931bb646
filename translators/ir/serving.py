"""What a Gateway serves: its ports, hostnames, rules and endpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from translators.ir.filters import NO_CHANGES, Cors, HeaderChanges, Redirect, UrlRewrite
from translators.ir.matches import Match, StringMatch
from translators.ir.pools import Backend, Picker, Pool
from translators.settings import Placement

WHOLE = 1_000_000
"""The share of a mirror that copies every request."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where copies of a rule's requests go, and of how many in a million."""

    backend: Backend
    millionths: int = WHOLE

    @property
    def cluster(self) -> str:
        """The cluster of the copies, which has the endpoints of the backend's own."""
        return f"mirror/{self.backend.cluster}"


@dataclass(frozen=True, slots=True)
class Weighted:
    """A backend's share of a rule. A broken backend keeps its share, and answers 500 for it (HTTPBackendRef).

    to_pool: whether an InferencePool is meant, be it there or not. The changes of headers come after the rule's own.
    """

    weight: int
    backend: Backend | None
    to_pool: bool
    request_headers: HeaderChanges = NO_CHANGES
    response_headers: HeaderChanges = NO_CHANGES


@dataclass(frozen=True, slots=True)
class Route:
    """One match of one rule of one HTTPRoute.

    name: "httproute/namespace/name/rule/0/match/0". model: its condition on X-Gateway-Model-Name.
    timeout: milliseconds for the whole request, 0 for none; attempt_timeout: for one attempt, None for none.
    refusal: why the whole rule answers 500, or "".
    """

    name: str
    origin: str
    match: Match
    model: StringMatch | None
    backends: tuple[Weighted, ...]
    timeout: int = 0
    attempt_timeout: int | None = None
    refusal: str = ""
    mirrors: tuple[Mirror, ...] = ()
    request_headers: HeaderChanges = NO_CHANGES
    response_headers: HeaderChanges = NO_CHANGES
    redirect: Redirect | None = None
    rewrite: UrlRewrite | None = None
    cors: Cors | None = None
    # The pools that the rule leads to, by weight 0 too: their share may grow without a change of shape.
    pools: tuple[Pool, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pools = tuple(share.backend for share in self.backends if isinstance(share.backend, Pool))
        object.__setattr__(self, "pools", pools)

    @property
    def mirrored_pools(self) -> tuple[str, ...]:
        """The names of the pools of our own picker that copies go to."""
        pools = (each.backend for each in self.mirrors if isinstance(each.backend, Pool))
        return tuple(dict.fromkeys(pool.name for pool in pools if pool.picker is None))

    @property
    def served(self) -> bool:
        """Whether a request can reach a backend at all; otherwise the rule redirects or answers 500."""
        return not self.refusal and any(share.backend is not None and share.weight > 0 for share in self.backends)

    @property
    def inference(self) -> bool:
        """Whether the rule is an inference route: it chooses by model, or is meant to lead to a pool."""
        return self.model is not None or any(share.to_pool for share in self.backends)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """What is served for one hostname ("*", "*.example.com", "a.example.com"), in order of precedence.

    misdirected: whether requests for it belong to another listener of the port, so that none is served.
    """

    hostname: str
    routes: tuple[Route, ...]
    misdirected: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, as PEM. It is shown by its name only."""

    name: str
    origin: str
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


def certificate_name(namespace: str, secret: str) -> str:
    """Return the name under which Envoy knows the certificate of a Secret."""
    return f"secret/{namespace}/{secret}"


@dataclass(frozen=True, slots=True)
class Chain:
    """What a port does with a connection: one for all, or with TLS one for each listener.

    name: of its table of routes. server_name: the hostname that a client asks for in its handshake, "*" for any that no
    other chain has. certificates: the names of those that it is shown; without any, there is no TLS.
    """

    name: str
    hosts: tuple[VirtualHost, ...]
    server_name: str = "*"
    certificates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """The listeners of a Gateway that share a port.

    buffer_limit: bytes, None when no policy sets it. seats: where our pickers of the pools behind the port are asked.
    """

    number: int
    placement: Placement
    origin: str
    buffer_limit: int | None
    chains: tuple[Chain, ...]
    seats: tuple[Picker, ...] = ()

    @property
    def hosts(self) -> tuple[VirtualHost, ...]:
        """What the port serves, whichever the connection."""
        return tuple(host for chain in self.chains for host in chain.hosts)

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return any(chain.certificates for chain in self.chains)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod's address and port.

    pod: "namespace/name", or "" when no Pod is known to stand behind it. plaintext: whether a picker there has no TLS.
    """

    address: str
    port: int
    pod: str = ""
    plaintext: bool = False

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Assignment:
    """The ready endpoints of one cluster, sorted."""

    cluster: str
    origin: str
    endpoints: tuple[Endpoint, ...]

    def __hash__(self) -> int:
        # As that of a pool.
        return hash(self.cluster)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What one Gateway serves. `name` is "namespace/name".

    mirrored: those of the backends that copies go to. pickers: those of its pools that are not our own. certificates:
    those of its listeners that can be used.
    """

    name: str
    origin: str
    ports: tuple[Port, ...]
    backends: tuple[Backend, ...]
    mirrored: tuple[Backend, ...]
    pickers: tuple[Picker, ...]
    assignments: tuple[Assignment, ...]
    certificates: tuple[Certificate, ...] = ()
