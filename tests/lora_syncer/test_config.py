from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_syncer import Adapter, Config, ConfigError, decode

FULL = """
vLLMLoRAConfig:
  name: adapters
  host: vllm
  port: 9000
  defaultBaseModel: base
  ensureExist:
    models:
    - id: one
      source: org/one
    - id: two
      source: /lora/two
      base-model: other
  ensureNotExist:
    models:
    - id: three
      source: org/three
    - id: four
"""


def test_all_fields() -> None:
    assert decode(FULL) == Config(
        wanted=(Adapter("one", "org/one", "base"), Adapter("two", "/lora/two", "other")),
        unwanted=("three", "four"),
        host="vllm",
        port=9000,
        name="adapters",
    )


@pytest.mark.parametrize(
    "text",
    [
        "vLLMLoRAConfig: {}",
        "vLLMLoRAConfig: {port: 8000, ensureExist: }",
        "vLLMLoRAConfig: {ensureExist: {models: }, ensureNotExist: {models: []}}",
    ],
)
def test_what_is_left_out_or_empty_asks_for_nothing(text: str) -> None:
    assert decode(text) == Config(host="localhost", port=8000)


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("", "", "expected object, got null"),
        ("vLLMLoraConfig: {}", "vLLMLoRAConfig", "required"),
        ("vLLMLoRAConfig: {port: http}", "vLLMLoRAConfig.port", "expected int, got str"),
        ("vLLMLoRAConfig: {port: 70000}", "vLLMLoRAConfig.port", "expected int <= 65535"),
        ("vLLMLoRAConfig: {ensureExist: []}", "vLLMLoRAConfig.ensureExist", "expected object, got array"),
        (
            "vLLMLoRAConfig: {ensureExist: {models: [{id: a, source: s}, {id: b}]}}",
            "vLLMLoRAConfig.ensureExist.models[1].source",
            "required",
        ),
        (
            "vLLMLoRAConfig: {ensureNotExist: {models: [{id: 3}]}}",
            "vLLMLoRAConfig.ensureNotExist.models[0].id",
            "expected str, got int",
        ),
        (
            "vLLMLoRAConfig: {ensureExist: {models: [{id: '', source: s}]}}",
            "vLLMLoRAConfig.ensureExist.models[0].id",
            "expected str of length >= 1",
        ),
    ],
)
def test_mistakes_name_the_field(text: str, field: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(text)
    assert (caught.value.field, caught.value.message) == (field, message)


@pytest.mark.parametrize("text", ["a: [", b"\xff\xfe\xff", "a: !!python/object:os.system {}", "[" * 2000])
def test_what_is_no_yaml(text: str | bytes) -> None:
    with pytest.raises(ConfigError, match="this is not YAML"):
        decode(text)


def test_fields_that_mean_nothing_are_told() -> None:
    text = "vLLMLoRAConfig: {ensureExists: {}, ensureExist: {models: [{id: a, source: s, toRemove: true}]}}\nb: 1"
    assert decode(text).ignored == (
        "vLLMLoRAConfig.ensureExists",
        "vLLMLoRAConfig.ensureExist.models[0].toRemove",
        "b",
    )


@given(st.text() | st.binary())
def test_any_text_is_a_configuration_or_refused(text: str | bytes) -> None:
    with suppress(ConfigError):
        assert isinstance(decode(text), Config)
