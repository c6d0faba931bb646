"""What a simulated model server is: the facts that its command line fixes, and how fast it is.

Nothing here depends on the dialect (vLLM's or another's) that the facts were written in.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class LoraModule:
    """A LoRA adapter: the model name that clients ask for, and where its weights would be."""

    name: str
    path: str


class Role(Enum):
    """The half of the work that a server does where prefill and decode are apart."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Disaggregation:
    """How a server shares the work: a prefill server is met at `bootstrap_port`; each waits `patience` seconds."""

    role: Role
    bootstrap_port: int
    patience: float


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One model server as its command line describes it.

    `max_model_len` is in tokens, prompt and answer together; `num_blocks` is the size of the KV cache in blocks of
    `block_size` tokens; `max_batched_tokens` bounds the tokens that one step of the engine computes.
    `adapters_at_run_time` says that clients may load and unload LoRA adapters; at the paths `absent_adapters` there
    are none. `host` is the address that the command line has it listen on, "" where it names none. `remarks` say in
    what the simulated server differs from what its command line would make of a real one.
    """

    dialect: str
    model: str
    served_names: tuple[str, ...]
    port: int
    max_model_len: int
    max_num_seqs: int
    max_batched_tokens: int
    block_size: int
    num_blocks: int
    gpu_memory_utilization: float
    prefix_caching: bool = True
    lora_enabled: bool = False
    max_loras: int = 1
    lora_modules: tuple[LoraModule, ...] = ()
    adapters_at_run_time: bool = False
    absent_adapters: tuple[str, ...] = ()
    disaggregation: Disaggregation | None = None
    host: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the simulated GPU takes, in seconds, and how long an answer is when nothing else ends it, in tokens.

    A step that decodes for n sequences takes `decode * (1 + decode_growth * (n - 1))`, and every prompt token that it
    computes adds `prefill`.
    """

    prefill: float = 20e-6
    decode: float = 5e-3
    decode_growth: float = 0.002
    answer_tokens: int = 64


class CommandError(ValueError):
    """A command line that the real server would refuse; the message names the flag."""
