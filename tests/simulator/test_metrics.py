from collections.abc import Awaitable, Callable

from aiohttp import ClientSession
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from simulator import ModelServer

Start = Callable[..., Awaitable[ModelServer]]


async def scrape(client: ClientSession, server: ModelServer) -> dict[str, Metric]:
    async with client.get(server.site.url + "/metrics") as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    return {family.name: family for family in text_string_to_metric_families(text)}


async def ask(client: ClientSession, server: ModelServer, model: str, tokens: int) -> None:
    body = {"model": model, "prompt": "x" * 256, "max_tokens": tokens}
    async with client.post(server.site.url + "/v1/completions", json=body) as response:
        assert response.ok


async def test_an_idle_server(start: Start, client: ClientSession) -> None:
    families = await scrape(client, await start("--num-gpu-blocks-override 500"))
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"):
        assert families[name].type == "gauge"
        sample = families[name].samples[0]
        assert (sample.value, sample.labels) == (0.0, {"engine": "0", "model_name": "m"})
    labels = families["vllm:cache_config_info"].samples[0].labels
    assert (labels["block_size"], labels["num_gpu_blocks"]) == ("16", "500")
    # vLLM has this family only with LoRA enabled.
    assert "vllm:lora_requests_info" not in families


async def test_counters_and_histograms(start: Start, client: ClientSession) -> None:
    server = await start()
    await ask(client, server, "m", 3)
    await ask(client, server, "m", 4)
    families = await scrape(client, server)
    values = {sample.name: sample.value for family in families.values() for sample in family.samples}
    assert values["vllm:prompt_tokens_total"] == 128
    assert values["vllm:generation_tokens_total"] == 7
    assert values["vllm:prefix_cache_queries_total"] == 128
    assert values["vllm:prefix_cache_hits_total"] == 48
    assert values["vllm:time_to_first_token_seconds_count"] == 2
    assert values["vllm:e2e_request_latency_seconds_count"] == 2
    finished = {sample.labels["finished_reason"]: sample.value for sample in families["vllm:request_success"].samples}
    assert finished == {"stop": 0, "length": 2, "abort": 0}


async def test_the_newest_series_of_adapters_counts(start: Start, client: ClientSession) -> None:
    server = await start("--enable-lora --max-loras 3 --lora-modules b=/b a=/a")
    assert not (await scrape(client, server))["vllm:lora_requests_info"].samples
    await ask(client, server, "a", 2)
    await ask(client, server, "b", 2)
    samples = (await scrape(client, server))["vllm:lora_requests_info"].samples
    assert {sample.labels["running_lora_adapters"] for sample in samples} == {"a", "b", ""}
    newest = max(samples, key=lambda sample: sample.value)
    assert newest.labels == {"max_lora": "3", "running_lora_adapters": "", "waiting_lora_adapters": ""}


async def test_labels_are_escaped(start: Start, client: ClientSession) -> None:
    server = await start(r"""--served-model-name 'a"b\c'""")
    assert (await scrape(client, server))["vllm:num_requests_running"].samples[0].labels["model_name"] == 'a"b\\c'
