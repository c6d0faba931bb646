"""The type URLs of the resources that Envoy and the picker subscribe to."""

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SCOPED_ROUTES = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
POOL = "type.googleapis.com/pointsman.picker.v1.Pool"
