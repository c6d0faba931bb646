"""vLLM's command line: `vllm serve MODEL ...` and `python3 -m vllm.entrypoints.openai.api_server --model MODEL ...`.

Flags, defaults and refusals are vLLM's (docs.vllm.ai, `vllm serve`); what vLLM reads from the model or from the GPU
is a constant here, because there is neither.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import msgspec

from simulator.dialects.values import KV_TOKENS, MODEL_LEN, fraction, port, whole
from simulator.flags import Arity, Flags, parse
from simulator.spec import CommandError, LoraModule, ServerSpec

_API_SERVER = "vllm.entrypoints.openai.api_server"
_IMAGE = "vllm-openai"
_UPDATING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

_KNOWN = {
    "model": Arity.ONE,
    "host": Arity.ONE,
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
    block_size = whole(flags, "block-size", 16)
    utilization = fraction(flags, "gpu-memory-utilization", 0.9)
    override = flags.last("num-gpu-blocks-override")
    blocks = whole(flags, "num-gpu-blocks-override", max(1, int(KV_TOKENS * utilization) // block_size))
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
        port=port(flags, "port", 8000),
        max_model_len=model_len,
        max_num_seqs=whole(flags, "max-num-seqs", 256),
        max_batched_tokens=whole(flags, "max-num-batched-tokens", 2048),
        block_size=block_size,
        num_blocks=blocks,
        gpu_memory_utilization=utilization,
        prefix_caching=flags.switch("enable-prefix-caching", default=True),
        lora_enabled=lora_enabled,
        max_loras=whole(flags, "max-loras", 1),
        lora_modules=modules,
        host=flags.last("host") or "",
        adapters_at_run_time=env.get(_UPDATING, "").strip().lower() in {"1", "true"},
    )


def _model_len(flags: Flags, capacity: int) -> int:
    # "auto" and -1 mean the longest that memory holds.
    if flags.last("max-model-len") in {None, "auto", "-1"}:
        return min(MODEL_LEN, capacity)
    return whole(flags, "max-model-len", capacity)


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
