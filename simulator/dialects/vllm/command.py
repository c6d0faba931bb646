"""vLLM's command line: `vllm serve MODEL ...` and `python3 -m vllm.entrypoints.openai.api_server --model MODEL ...`.

Flags, defaults and refusals are vLLM's (docs.vllm.ai, `vllm serve`); what vLLM reads from the model or from the GPU
is a constant here, because there is neither.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import msgspec

from simulator.flags import Arity, Flags, parse
from simulator.spec import CommandError, LoraModule, ServerSpec

# The tokens that the KV cache of an 80 GB GPU holds for a model of about 8B parameters, if all its memory were used.
_KV_TOKENS = 400_000
# What stands in for the model's own context length where --max-model-len is not given.
_MODEL_LEN = 131_072
_API_SERVER = "vllm.entrypoints.openai.api_server"
_IMAGE = "vllm-openai"
_MAX_PORT = 65_535
_UPDATING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

_KNOWN = {
    "model": Arity.ONE,
    "port": Arity.ONE,
    "served-model-name": Arity.MANY,
    "max-model-len": Arity.ONE,
    "max-num-seqs": Arity.ONE,
    "max-num-batched-tokens": Arity.ONE,
    "gpu-memory-utilization": Arity.ONE,
    "block-size": Arity.ONE,
    "num-gpu-blocks-override": Arity.ONE,
    "enable-prefix-caching": Arity.NONE,
    "no-enable-prefix-caching": Arity.NONE,
    "enable-lora": Arity.NONE,
    "no-enable-lora": Arity.NONE,
    "max-loras": Arity.ONE,
    "lora-modules": Arity.MANY,
}
_NEIGHBOURS = frozenset(
    {
        "enable-lora-bias",
        "lora-dtype",
        "lora-extra-vocab-size",
        "max-cpu-loras",
        "max-logprobs",
        "max-long-partial-prefills",
        "max-lora-rank",
        "max-num-partial-prefills",
        "model-impl",
        "model-loader-extra-config",
    },
)
_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class _LoraJson(msgspec.Struct):
    name: str
    path: str


def arguments(words: Sequence[str], image: str, *, entrypoint: bool) -> tuple[str, ...] | None:
    """Return the arguments after vLLM's own name in `words`; None when they do not start vLLM.

    `entrypoint` says that the container has no command of its own, so that vLLM's official image starts vLLM.
    """
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else None
        if PurePosixPath(word).name == "vllm" and following == "serve":
            return tuple(words[place + 2 :])
        if word == "-m" and following == _API_SERVER:
            return tuple(words[place + 2 :])
    if entrypoint and PurePosixPath(image).name.partition(":")[0].partition("@")[0] == _IMAGE:
        return tuple(words)
    return None


def read(argv: Sequence[str], env: Mapping[str, str]) -> ServerSpec:
    """Read the server that vLLM's arguments describe, in a container with these variables.

    Raises CommandError naming the flag that vLLM would refuse.
    """
    flags = parse(argv, _KNOWN, _NEIGHBOURS)
    model = flags.positionals[0] if flags.positionals else flags.last("model")
    if not model:
        raise CommandError("--model: no model is given")
    block_size = _whole(flags, "block-size", 16)
    utilization = _fraction(flags, "gpu-memory-utilization", 0.9)
    override = flags.last("num-gpu-blocks-override")
    blocks = _whole(flags, "num-gpu-blocks-override", max(1, int(_KV_TOKENS * utilization) // block_size))
    model_len = _model_len(flags, blocks * block_size)
    if model_len > blocks * block_size:
        if override is not None:
            raise CommandError(
                f"--max-model-len: {model_len} tokens do not fit into {blocks} blocks of {block_size} tokens",
            )
        # vLLM refuses here too, but by the memory of a GPU that nobody has named.
        blocks = -(-model_len // block_size)
    lora_enabled = flags.switch("enable-lora", default=False)
    modules = tuple(_lora_module(text) for text in flags.values.get("lora-modules", ()))
    if modules and not lora_enabled:
        raise CommandError("--lora-modules: needs --enable-lora")
    return ServerSpec(
        dialect="vllm",
        model=model,
        served_names=flags.values.get("served-model-name", (model,)),
        port=_port(flags),
        max_model_len=model_len,
        max_num_seqs=_whole(flags, "max-num-seqs", 256),
        max_batched_tokens=_whole(flags, "max-num-batched-tokens", 2048),
        block_size=block_size,
        num_blocks=blocks,
        gpu_memory_utilization=utilization,
        prefix_caching=flags.switch("enable-prefix-caching", default=True),
        lora_enabled=lora_enabled,
        max_loras=_whole(flags, "max-loras", 1),
        lora_modules=modules,
        adapters_at_run_time=env.get(_UPDATING, "").strip().lower() in {"1", "true"},
    )


def _whole(flags: Flags, name: str, default: int) -> int:
    text = flags.last(name)
    if text is None:
        return default
    match = _HUMAN.fullmatch(text)
    number = int(float(match[1]) * _SCALE[match[2]]) if match else 0
    if number < 1:
        raise CommandError(f"--{name}: expected a positive whole number, got {text!r}")
    return number


def _fraction(flags: Flags, name: str, default: float) -> float:
    text = flags.last(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise CommandError(f"--{name}: expected a number above 0 and at most 1, got {text!r}")
    return number


def _port(flags: Flags) -> int:
    port = _whole(flags, "port", 8000)
    if port > _MAX_PORT:
        raise CommandError(f"--port: {port} is no port")
    return port


def _model_len(flags: Flags, capacity: int) -> int:
    # "auto" and -1 mean the longest that memory holds.
    if flags.last("max-model-len") in {None, "auto", "-1"}:
        return min(_MODEL_LEN, capacity)
    return _whole(flags, "max-model-len", capacity)


def _lora_module(text: str) -> LoraModule:
    if text.lstrip().startswith("{"):
        try:
            module = msgspec.json.decode(text, type=_LoraJson)
        except msgspec.DecodeError as error:
            raise CommandError(f"--lora-modules: {text!r}: {error}") from error
        return LoraModule(module.name, module.path)
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise CommandError(f"--lora-modules: expected name=path or a JSON object, got {text!r}")
    return LoraModule(name, path)
