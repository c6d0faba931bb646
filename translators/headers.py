"""The request headers, metadata and messages by which Envoy, the picker and the routes understand each other."""

from __future__ import annotations

MODEL = "x-gateway-model-name"
"""The body's model, as HTTPRoutes match on it (Inference Extension, body-based routing)."""

LENGTH = "content-length"
"""From it the picker estimates the tokens of a prompt that it is not sent."""

DESTINATION = "x-gateway-destination-endpoint"
"""The endpoint chosen for a request (endpoint picker protocol)."""

MIRROR_DESTINATION = "x-pointsman-mirror-destination"
"""The endpoints chosen for a request's copies, in the shape of DESTINATION: each copy goes to the first of its own."""

PREFILL_DESTINATION = "x-pointsman-prefill-endpoint"
"""The endpoint chosen to prefill a request, "ip:port": its copy for that pod sees no metadata."""

SERVED = "x-gateway-destination-endpoint-served"
"""The endpoint that Envoy went to (endpoint picker protocol)."""


def served_key(picker: str) -> str:
    """Return the metadata key of what SERVED says, where several of our pickers are to be told of their own requests.

    picker: the picker's cluster.
    """
    return f"{SERVED}/{picker}"


OBJECTIVES = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
"""The name of an InferenceObjective (llm-d), in the header of today and in the older one."""

EXAMINED = "x-pointsman-examined"
"""Set once a request's body was searched for the model, so that the second choice of a route differs from the first.

Its value is "1", or says what is wrong with the body.
"""

CLIENT_MAY_NOT_SET = (MODEL, DESTINATION, MIRROR_DESTINATION, PREFILL_DESTINATION, EXAMINED)
"""Headers that steer the request; Envoy drops the client's own before anything reads them."""

LOAD_BALANCING = "envoy.lb"
"""The metadata namespace from which override_host takes the picker's choice (endpoint picker protocol)."""

POINTSMAN = "pointsman"
"""Our own metadata namespace: on a request, what ties its log entry to its pick; on a route, what the route is."""

USAGE = "usage"
"""In our own metadata of a request: the object `usage` of the answer's JSON, as text."""

ANSWERED = "model"
"""In our own metadata of a request: the model that the answer names."""

FIRST_BYTE = "first_byte_us"
"""A tag of a log entry: microseconds from the request's first byte to that of the answer's body."""

POOL_KEY = "x-pointsman-pool"
"""gRPC metadata of an exchange with the picker: the pool that is asked for, "namespace/name"."""

MIRRORS_KEY = "x-pointsman-mirrors"
"""gRPC metadata of an exchange with the picker: the pools that copies go to, "namespace/name,namespace/name"."""

LIST_KEY = "x-pointsman-models-of"
"""gRPC metadata of an exchange with the picker over a list of models: the pools behind it, as JSON in ASCII.

An array of arrays: a pool, "namespace/name", and an expression (RE2) for those of its models that are meant, or null.
"""

BODY_KEY = "x-pointsman-body"
"""gRPC metadata of an exchange with the picker: "1" where the body follows the headers, STREAMED where all streams."""

STREAMED = "streamed"
