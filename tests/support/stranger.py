"""A program that asks a control plane for a part's secrets, and prints how that ends.

`python stranger.py ADDRESS GROUP ROLE < ROOTS-AND-TOKEN`: the roots of the control plane in PEM, then the token in the
last line, which may be empty. It prints "served", or the status that the stream ends with.
"""

import sys

import grpc

from picker.ads import SERVER_NAME
from protos.pointsman.envoy.v1.base_pb2 import Node
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from xds.type_urls import LISTENER
from xds.wire import METHOD

_PATIENCE = 60.0


def main(address: str, group: str, role: str) -> str:
    """Ask, and return how that ends."""
    roots, _, token = sys.stdin.read().rpartition("\n")
    options = (("grpc.ssl_target_name_override", SERVER_NAME),)
    node = Node(id="stranger", cluster=group)
    node.metadata.fields["role"].string_value = role
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(roots.encode()), options) as channel:
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


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]))
