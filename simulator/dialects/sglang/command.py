"""SGLang's command line: `python3 -m sglang.launch_server --model-path MODEL ...`, `sglang serve ...`.

Flags and defaults are SGLang's (docs.sglang.ai, Server Arguments). Its radix tree finds prefixes token by token; here
they are found page by page, and a page is 16 tokens where no flag says otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from simulator.dialects.values import KV_TOKENS, MODEL_LEN, fraction, port, whole
from simulator.flags import Arity, Flags, parse
from simulator.rooms import BOOTSTRAP_PORT
from simulator.spec import CommandError, Disaggregation, LoraModule, Role, ServerSpec

_PAGE = 16
_MODULES = frozenset({"sglang.launch_server", "sglang.srt.entrypoints.http_server"})
# How long each waits for the other, in seconds.
_PATIENCE = {
    Role.PREFILL: "SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT",
    Role.DECODE: "SGLANG_DISAGGREGATION_WAITING_TIMEOUT",
}

_KNOWN = {
    "model-path": Arity.ONE,
    "model": Arity.ONE,
    "host": Arity.ONE,
    "port": Arity.ONE,
    "served-model-name": Arity.ONE,
    "context-length": Arity.ONE,
    "max-running-requests": Arity.ONE,
    "max-total-tokens": Arity.ONE,
    "chunked-prefill-size": Arity.ONE,
    "max-prefill-tokens": Arity.ONE,
    "page-size": Arity.ONE,
    "mem-fraction-static": Arity.ONE,
    "disable-radix-cache": Arity.NONE,
    "enable-metrics": Arity.NONE,
    "enable-lora": Arity.NONE,
    "lora-paths": Arity.MANY,
    "max-loras-per-batch": Arity.ONE,
    "disaggregation-mode": Arity.ONE,
    "disaggregation-bootstrap-port": Arity.ONE,
}
_NEIGHBOURS = frozenset(
    {
        "disable-cuda-graph",
        "disable-overlap-schedule",
        "disaggregation-decode-tp",
        "disaggregation-ib-device",
        "disaggregation-transfer-backend",
        "enable-cache-report",
        "enable-dp-attention",
        "enable-metrics-for-all-schedulers",
        "enable-mixed-chunk",
        "enable-p2p-check",
        "enable-torch-compile",
        "lora-backend",
        "lora-target-modules",
        "max-lora-rank",
        "max-loaded-loras",
        "max-queued-requests",
        "model-impl",
        "model-loader-extra-config",
    },
)


def arguments(words: Sequence[str], image: str, *, entrypoint: bool) -> tuple[str, ...] | None:
    """Return the arguments after SGLang's own name in `words`; None when they do not start SGLang.

    SGLang's official images start nothing by themselves: neither `image` nor `entrypoint` matters.
    """
    del image, entrypoint
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else None
        if (word == "-m" and following in _MODULES) or (PurePosixPath(word).name == "sglang" and following == "serve"):
            return tuple(words[place + 2 :])
    return None


def read(argv: Sequence[str], env: Mapping[str, str]) -> ServerSpec:
    """Read the server that SGLang's arguments describe, in a container with these variables.

    Raises CommandError naming the flag that SGLang would refuse.
    """
    flags = parse(argv, _KNOWN, _NEIGHBOURS)
    model = flags.last("model-path") or flags.last("model") or next(iter(flags.positionals), None)
    if not model:
        raise CommandError("--model-path: no model is given")
    page = max(whole(flags, "page-size", _PAGE), _PAGE)
    memory = fraction(flags, "mem-fraction-static", 0.88)
    capacity = whole(flags, "max-total-tokens", int(KV_TOKENS * memory))
    longest = whole(flags, "context-length", min(MODEL_LEN, capacity))
    modules = tuple(_lora_module(text) for text in flags.values.get("lora-paths", ()))
    remarks = () if flags.switch("enable-metrics", default=False) else (_NO_METRICS,)
    return ServerSpec(
        dialect="sglang",
        model=model,
        served_names=(flags.last("served-model-name") or model,),
        port=port(flags, "port", 30_000),
        max_model_len=longest,
        max_num_seqs=whole(flags, "max-running-requests", 2048),
        max_batched_tokens=_chunk(flags),
        block_size=page,
        num_blocks=-(-max(capacity, longest) // page),
        gpu_memory_utilization=memory,
        prefix_caching=not flags.switch("disable-radix-cache", default=False),
        lora_enabled=flags.switch("enable-lora", default=False) or bool(modules),
        max_loras=whole(flags, "max-loras-per-batch", 8),
        lora_modules=modules,
        disaggregation=_disaggregation(flags, env),
        host=flags.last("host") or "",
        remarks=remarks,
    )


_NO_METRICS = "SGLang shows metrics only with --enable-metrics; a simulated server shows them without"


def _chunk(flags: Flags) -> int:
    # -1 means that prompts are not cut.
    if flags.last("chunked-prefill-size") == "-1":
        return whole(flags, "max-prefill-tokens", 16_384)
    return whole(flags, "chunked-prefill-size", 8192)


def _disaggregation(flags: Flags, env: Mapping[str, str]) -> Disaggregation | None:
    mode = flags.last("disaggregation-mode")
    if mode in {None, "null"}:
        return None
    try:
        role = Role(mode)
    except ValueError:
        message = f"--disaggregation-mode: expected null, prefill or decode, got {mode!r}"
        raise CommandError(message) from None
    meeting = port(flags, "disaggregation-bootstrap-port", BOOTSTRAP_PORT)
    patience = env.get(_PATIENCE[role], "")
    return Disaggregation(role, meeting, float(patience) if patience.isdecimal() else 300.0)


def _lora_module(text: str) -> LoraModule:
    name, equals, path = text.partition("=")
    return LoraModule(name, path if equals else name)
