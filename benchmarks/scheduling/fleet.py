"""The fleet that every router is measured with: eight simulated vLLM servers of a large model.

The figures are those of a model of 70 billion parameters on few GPUs: a server computes 5,000 prompt tokens a second,
makes a token for each running sequence every 30 ms and a little more, and has room for 65,536 tokens in its KV cache.
A request thus takes seconds and few events, so that neither the simulator nor the load generator is the limit.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator import ServerSpec, Timing
from simulator.commands import Launch, find_server

SERVERS = 8
MODEL = "llm"
ADAPTERS = tuple(f"adapter-{number}" for number in range(1, 13))

_PREFILL, _DECODE, _GROWTH = 200e-6, 30e-3, 0.01
_PORT = 8000
_FLAGS = (
    f"--served-model-name {MODEL} --port {_PORT} --max-num-seqs 32 --max-model-len 32768 --num-gpu-blocks-override 4096"
)
_LORA_FLAGS = "--enable-lora --max-loras 3 --lora-modules " + " ".join(f"{name}=/adapters/{name}" for name in ADAPTERS)

Manifest = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many servers whose work takes `slow` times as long as it does on the GPUs that they stand for."""

    servers: int = SERVERS
    slow: float = 1.0
    lora: bool = True

    @property
    def timing(self) -> Timing:
        """How long the servers take."""
        return Timing(prefill=_PREFILL * self.slow, decode=_DECODE * self.slow, decode_growth=_GROWTH)

    @property
    def spec(self) -> ServerSpec:
        """One server, as the simulator understands its command line."""
        spec = find_server(Launch("vllm", command=tuple(self._command)))
        if spec is None:
            raise RuntimeError("the simulator does not know the fleet's command line")
        return spec

    def write(self, folder: Path) -> None:
        """Write the fleet's Deployment."""
        timing = self.timing
        prefix = "simulator.pointsman.dev/"
        annotations = {
            f"{prefix}prefill-us": str(timing.prefill * 1e6),
            f"{prefix}decode-ms": str(timing.decode * 1e3),
            f"{prefix}decode-growth": str(timing.decode_growth),
        }
        container = {
            "name": "vllm",
            "image": "vllm/vllm-openai:v0.11.0",
            "command": self._command,
            "ports": [{"name": "http", "containerPort": _PORT}],
        }
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "fleet"},
            "spec": {
                "replicas": self.servers,
                "selector": {"matchLabels": {"app": "fleet"}},
                "template": {
                    "metadata": {"labels": {"app": "fleet"}, "annotations": annotations},
                    "spec": {"containers": [container]},
                },
            },
        }
        (folder / "fleet.yaml").write_text(json.dumps(deployment), encoding="utf-8")

    @property
    def _command(self) -> Sequence[str]:
        return ["vllm", "serve", "/models/llm", *shlex.split(_FLAGS + (f" {_LORA_FLAGS}" if self.lora else ""))]
