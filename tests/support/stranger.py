"""A program that asks a control plane for what somebody is to have, and says how that ends.

`python stranger.py ADDRESS < QUESTIONS`: JSON with the `roots` of the control plane (PEM) and `questions`, each a list
of a token, which may be empty, a group and a role, and `pairs`, for each question the key and the certificate chain
that are shown (PEM), or none. It prints a list of answers: "served", or the status that the stream ends with.
"""

import json
import sys

import grpc

from picker.ads import SERVER_NAME
from protos.pointsman.envoy.v1.base_pb2 import Node
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from xds.type_urls import LISTENER
from xds.wire import METHOD

_PATIENCE = 60.0


def ask(channel: grpc.Channel, token: str, group: str, role: str) -> str:
    """Ask for listeners, and return how that ends."""
    node = Node(id="stranger", cluster=group)
    node.metadata.fields["role"].string_value = role
    call = channel.stream_stream(
        METHOD,
        request_serializer=DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=DeltaDiscoveryResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    answers = call(iter([DeltaDiscoveryRequest(node=node, type_url=LISTENER)]), _PATIENCE, metadata)
    try:
        next(answers)
    except StopIteration:
        return "ended"
    except grpc.RpcError as error:
        return str(error.code().name)
    return "served"


def main(address: str) -> None:
    """Ask all."""
    given = json.load(sys.stdin)
    options = (("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1))
    answers = []
    for question, pair in zip(given["questions"], given["pairs"], strict=True):
        security = grpc.ssl_channel_credentials(given["roots"].encode(), *(each.encode() for each in pair))
        with grpc.secure_channel(address, security, options) as channel:
            answers.append(ask(channel, *question))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
