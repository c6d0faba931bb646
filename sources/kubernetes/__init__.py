"""Objects of a Kubernetes cluster: listed, watched, and written to."""
