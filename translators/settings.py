"""What the translation is told besides the World: choices of the operator and addresses of the installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ModelFinder = Literal["lua", "ai_protocol_manager"]
"""How Envoy finds the model in a request's body: see docs/decisions/0002-finding-the-model.md."""

PICKER_CLUSTER = "pointsman-picker"
"""The cluster of our own endpoint picker.

It stands in the bootstrap: Envoy drops exchanges that run while a picker's cluster is updated, so it never changes.
"""

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the listeners of one Gateway on one port are bound."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that shapes the translation and is no Kubernetes object.

    placements: by Gateway ("namespace/name") and port of the listener; where none is given, `bind` and the port itself.
    unplaced: the Gateways and ports that have no place, with the Gateway ("namespace/name") that is there already.
    controllers: the controllerNames of the GatewayClasses that are ours; None makes every class ours, as in a folder.
    picker_services: whether our pickers run behind Services of their pools' namespaces, as in a cluster; if not, there
    is one, whose address Envoy has from the start.
    bootstrap: that of Envoys which are deployed (YAML), with names behind dollar signs; "" where none are.
    held_body_limit: bytes of a request's body that may be held where no bufferLimit says so.
    connection_buffer_limit: bytes buffered for each connection and direction where no bufferLimit says so.
    user_timeout: whether Envoy's system knows TCP_USER_TIMEOUT, as Linux does.
    """

    bind: str = "127.0.0.1"
    placements: Mapping[tuple[str, int], Placement] = field(default_factory=dict)
    unplaced: Mapping[tuple[str, int], str] = field(default_factory=dict)
    controllers: frozenset[str] | None = None
    model_finder: ModelFinder = "lua"
    picker_services: bool = False
    bootstrap: str = ""
    held_body_limit: int = 20 * MEBIBYTE
    connection_buffer_limit: int = MEBIBYTE
    user_timeout: bool = True

    @property
    def deploys(self) -> bool:
        """Whether Envoys are deployed for Gateways, as in a cluster."""
        return self.picker_services

    def place(self, gateway: str, port: int) -> Placement:
        """Where the listeners of this Gateway on this port are bound."""
        return self.placements.get((gateway, port)) or Placement(self.bind, port)
