"""vLLM: its command line and its metrics."""
