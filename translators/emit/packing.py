"""Small constructors for the wrappers in which Envoy's messages travel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any as Json

import betterproto2
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.google.protobuf import Any, Struct
from google.protobuf.message import Message

TYPE_PREFIX = "type.googleapis.com/"


def pack(message: betterproto2.Message) -> Any:
    """Return the message in an Any."""
    return Any.pack(message)


def pack_merged(message: betterproto2.Message, rest: Any) -> Any:
    """Return the message in an Any together with the rest of its fields, which are packed already.

    To append one encoding to another is to merge the messages (protobuf, Encoding, "Last One Wins").
    """
    return Any(type_url=rest.type_url, value=bytes(message) + rest.value)


def pack_as(full_name: str, message: Message) -> Any:
    """Return a message of ours in an Any under the name of the message of Envoy's that it stands for."""
    return Any(type_url=TYPE_PREFIX + full_name, value=message.SerializeToString(deterministic=True))


def extension(name: str, message: betterproto2.Message) -> core.TypedExtensionConfig:
    """Return the message as an extension's configuration."""
    return core.TypedExtensionConfig(name=name, typed_config=pack(message))


def http_filter(name: str, config: Any, *, disabled: bool = False) -> hcm.HttpFilter:
    """Return an HTTP filter; a disabled one runs only where a route carries a configuration for it."""
    return hcm.HttpFilter(name=name, typed_config=config, disabled=disabled)


def struct(value: Mapping[str, Json]) -> Struct:
    """Return a JSON object as a Struct."""
    made: Struct = Struct.from_dict(dict(value))
    return made


def metadata(namespace: str, value: Mapping[str, Json]) -> core.Metadata:
    """Return metadata with one namespace."""
    return core.Metadata(filter_metadata={namespace: struct(value)})


def milliseconds(value: int) -> timedelta:
    """Return a duration."""
    return timedelta(milliseconds=value)


# Whatever refers to a secret that there is none of waits this long for it: a listener's port, a cluster.
_PATIENCE = milliseconds(3000)


def secret_over_ads(name: str) -> tls.SdsSecretConfig:
    """Return a reference to a secret that is asked for like everything else."""
    source = core.ConfigSource(
        ads=core.AggregatedConfigSource(),
        resource_api_version=core.ApiVersion.V3,
        initial_fetch_timeout=_PATIENCE,
    )
    return tls.SdsSecretConfig(name=name, sds_config=source)
