"""Between the messages of the delta protocol on the wire and the values that the stream works with."""

from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from xds.stream import Request, Response

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


def read(message: DeltaDiscoveryRequest) -> Request:
    """Turn a message into a request."""
    return Request(
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else None,
    )


def write(response: Response) -> DeltaDiscoveryResponse:
    """Turn a response into a message; the resources' bytes go into it as they are."""
    message = DeltaDiscoveryResponse(
        type_url=response.type_url, nonce=response.nonce, removed_resources=response.removed
    )
    for sealed in response.resources:
        resource = message.resources.add(name=sealed.name, version=sealed.version)
        resource.resource.type_url = sealed.type_url
        resource.resource.value = sealed.body
    return message
