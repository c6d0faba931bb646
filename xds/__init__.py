"""Serves sealed resources over the delta xDS protocol; knows no Kubernetes."""

from xds.encoder import encode
from xds.server import AdsServer, Permit, Refusal
from xds.snapshot import Sealed, Snapshot, seal
from xds.status import ENVOY, PICKER, ClientStatus, Nack, Peer, TypeStatus

__all__ = [
    "ENVOY",
    "PICKER",
    "AdsServer",
    "ClientStatus",
    "Nack",
    "Peer",
    "Permit",
    "Refusal",
    "Sealed",
    "Snapshot",
    "TypeStatus",
    "encode",
    "seal",
]
