"""What a change costs the control plane, and how long it takes until it is served, by the number of routes."""
