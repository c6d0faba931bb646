"""Routers in front of one simulated fleet, with the same traces: who answers sooner, and who finds prompts cached."""
