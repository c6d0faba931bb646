from dataclasses import replace

import pytest

from simulator.commands import Launch, find_server
from simulator.spec import CommandError, LoraModule, ServerSpec


def serve(*arguments: str) -> ServerSpec:
    spec = find_server(Launch("server", command=("vllm", "serve", *arguments)))
    assert spec is not None
    return spec


def shell(script: str, **env: str) -> ServerSpec | None:
    return find_server(Launch("server", command=("sh", "-c", script), env=tuple(env.items())))


def test_a_shell_command_with_lora_modules() -> None:
    spec = shell(
        "vllm serve /models/Qwen --port 8001 --trust-remote-code --served-model-name qwen --max-model-len 8192 "
        "--gpu-memory-utilization 0.95 --enforce-eager --enable-lora --max-loras 2 --max-cpu-loras 4 "
        "--lora-modules v1=/models/a v2=/models/b",
    )
    assert spec == ServerSpec(
        dialect="vllm",
        model="/models/Qwen",
        served_names=("qwen",),
        port=8001,
        max_model_len=8192,
        max_num_seqs=256,
        max_batched_tokens=2048,
        block_size=16,
        num_blocks=23750,
        gpu_memory_utilization=0.95,
        lora_enabled=True,
        max_loras=2,
        lora_modules=(LoraModule("v1", "/models/a"), LoraModule("v2", "/models/b")),
    )


def test_the_module_with_args_of_its_own() -> None:
    spec = find_server(
        Launch(
            "vllm",
            image="vllm/vllm-openai:latest",
            command=("python3", "-m", "vllm.entrypoints.openai.api_server"),
            args=("--model", "meta/L", "--tensor-parallel-size", "1", "--port", "$(PORT)", "--max-num-seq", "1024"),
            env=(("BASE", "90"), ("PORT", "$(BASE)01")),
        ),
    )
    assert spec is not None
    assert (spec.model, spec.served_names, spec.port, spec.max_num_seqs) == ("meta/L", ("meta/L",), 9001, 1024)


@pytest.mark.parametrize(
    "launch",
    [
        Launch("c", image="docker.io/vllm/vllm-openai:v0.11", args=("--model", "m")),
        Launch("c", image="registry:5000/vllm-openai@sha256:0", args=("m",)),
        Launch("c", command=("/usr/bin/bash", "-lc"), args=("cd /x && VLLM_USE_V1=1 exec vllm serve m --port 8000",)),
        Launch("c", command=("bash", "-ec", "# don't\nsleep 1\nvllm serve \\\n  m \\\n  --port 8000 2>&1 | tee log")),
        Launch("c", command=("sh", "-c", "vllm serve $MODEL --port ${PORT:-8000}"), env=(("MODEL", "m"),)),
        Launch("c", command=("env", "A=b", "/opt/bin/vllm", "serve", "--trust-remote-code", "m")),
    ],
    ids=lambda launch: " ".join((*launch.command, *launch.args)),
)
def test_ways_to_start_it(launch: Launch) -> None:
    assert find_server(launch) == serve("m")


@pytest.mark.parametrize(
    "launch",
    [
        Launch("c"),
        Launch("c", image="nginx"),
        Launch("c", command=("sleep", "infinity")),
        Launch("c", command=("sh", "-c", "pip install vllm; echo ready")),
        Launch("c", command=("sh", "/start.sh")),
        Launch("c", command=("sh", "-c")),
        Launch("c", image="vllm/vllm-openai", command=("sleep", "1")),
    ],
    ids=repr,
)
def test_containers_that_serve_no_model(launch: Launch) -> None:
    assert find_server(launch) is None


def test_flags_as_argparse_reads_them() -> None:
    spec = serve(
        "--unknown",
        "value",
        "-tp",
        "2",
        "--max_model_len=16k",
        "m",
        "--served-model-name",
        "a",
        "b",
        "--no-enable-prefix-caching",
        "--block-size=32",
        "--num-gpu-blocks-override",
        "1000",
        "--enable-lora",
        "--lora-modules",
        '{"name": "l", "path": "/l", "base_model_name": "m"}',
        "x=/y=z",
    )
    assert (spec.max_model_len, spec.served_names, spec.prefix_caching) == (16_000, ("a", "b"), False)
    assert (spec.block_size, spec.num_blocks) == (32, 1000)
    assert spec.lora_modules == (LoraModule("l", "/l"), LoraModule("x", "/y=z"))


def test_model_given_by_flag_and_last_flag_wins() -> None:
    assert serve("--model", "m") == serve("m")
    assert serve("m", "--port", "1", "--port", "8000") == serve("m")


def test_length_without_a_flag_is_what_the_cache_holds() -> None:
    assert serve("m", "--num-gpu-blocks-override", "10").max_model_len == 160
    assert serve("m", "--num-gpu-blocks-override", "10", "--max-model-len", "auto").max_model_len == 160


def test_the_cache_holds_the_longest_request() -> None:
    spec = serve("m", "--max-model-len", "1M")
    assert spec == replace(serve("m"), max_model_len=2**20, num_blocks=2**16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--model: no model is given"),
        (("m", "--port"), "--port: expected an argument"),
        (("m", "--port", "http"), "--port: expected a positive whole number, got 'http'"),
        (("m", "--port", "70000"), "--port: 70000 is no port"),
        (("m", "--max-num", "3"), "--max-num: ambiguous, could be --max-num-batched-tokens"),
        (("m", "--max-num-seqs", "0"), "--max-num-seqs: expected a positive whole number"),
        (("m", "--gpu-memory-utilization", "95"), "--gpu-memory-utilization: expected a number above 0"),
        (("m", "--lora-modules", "a=/b"), "--lora-modules: needs --enable-lora"),
        (("m", "--enable-lora", "--lora-modules", "a"), "--lora-modules: expected name=path"),
        (("m", "--enable-lora", "--lora-modules", '{"name": 1}'), "--lora-modules: "),
        (("m", "--num-gpu-blocks-override", "2", "--max-model-len", "99"), "--max-model-len: 99 tokens do not fit"),
    ],
)
def test_mistakes_name_the_container_and_the_flag(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        serve(*arguments)
    assert str(caught.value).startswith(f"container server: {message}")


def test_a_script_that_does_not_parse() -> None:
    with pytest.raises(CommandError, match="container server: the shell script does not parse"):
        shell("vllm serve 'm")


def test_kubernetes_escape_and_unknown_references() -> None:
    spec = find_server(Launch("c", command=("vllm", "serve", "$$(A)$(NOBODY)"), env=(("A", "b"),)))
    assert spec is not None
    assert spec.model == "$(A)$(NOBODY)"
