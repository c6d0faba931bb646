"""InferenceTrafficPolicies: what the model servers of a pool are, and whether prefill and decode are apart.

Apart they can only be with SGLang, whose servers find each other by what stands in the request itself. vLLM's split
(`kv_transfer_params`) hands the prefill server's answer to the decode server, for which somebody has to wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resources import RUNTIME_ANNOTATION, InferenceTrafficPolicy, SplitProfile
from translators import ir
from translators.resolve.declared import ACCEPTED, DeclaredState
from translators.resolve.index import Index
from translators.resolve.pickers import picker_of
from translators.resolve.pool_kinds import KINDS, AnyPool

RUNTIMES: Mapping[str, ir.Runtime] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt-llm": "tensorrt-llm",
    "trt-llm": "tensorrt-llm",
    "trtllm": "tensorrt-llm",
    "triton": "triton",
    "triton-tensorrt-llm": "triton",
    "tgi": "tgi",
}
_PREFIX_CACHE = "prefixCache"
_MODES = frozenset({"estimate"})
_WHERE = "spec.profile.pd"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the policies say of a pool. role_label: the label of its pods that tells `prefill` from `decode`."""

    runtime: ir.Runtime | None = None
    split: ir.Split | None = None
    role_label: str = ""


def traffic_of(index: Index, pool: AnyPool) -> Traffic:
    """Return what the policy of a pool says: the oldest, and nothing where that is not accepted."""
    policy = next(iter(_policies_of(index, pool)), None)
    if policy is None or _refusal(index, policy, pool) is not None:
        return Traffic()
    runtime, profile = _runtime(policy, pool), policy.spec.profile.pd
    if profile is None:
        return Traffic(runtime)
    split = ir.Split(
        profile.kv_transfer.bootstrap_port,
        prefill=_strategy(profile, profile.prefill_policy_ref),
        decode=_strategy(profile, profile.decode_policy_ref),
    )
    return Traffic(runtime, split, profile.pd_role_label_name)


def traffic_states(index: Index) -> Iterator[DeclaredState]:
    """Yield how each policy stands, with the first of its problems."""
    for policies in index.traffic_policies.values():
        for policy in policies:
            yield DeclaredState(policy, next(_problems(index, policy), None))


def _policies_of(index: Index, pool: AnyPool) -> Iterator[InferenceTrafficPolicy]:
    for policy in index.traffic_policies.get((pool.key.namespace, pool.key.name), ()):
        if policy.spec.pool_ref.kind == pool.KIND and policy.spec.pool_ref.group in {None, pool.GROUP}:
            yield policy


def _problems(index: Index, policy: InferenceTrafficPolicy) -> Iterator[ir.Problem]:
    ref, namespace = policy.spec.pool_ref, policy.key.namespace
    found = (index.world.get(kind, namespace, ref.name) for kind in KINDS.values())
    pools = [pool for pool in found if pool is not None and policy in _policies_of(index, pool)]
    if not pools:
        text = f"{ref.kind} {namespace}/{ref.name}{f' ({ref.group})' if ref.group else ''} does not exist"
        yield ir.Problem(ACCEPTED, "PoolNotFound", text, "spec.poolRef")
    for pool in pools:
        owner = next(_policies_of(index, pool))
        if owner is not policy:
            yield ir.Problem(ACCEPTED, "Conflicted", f"the pool has {owner.key} already", "spec.poolRef")
        elif (refusal := _refusal(index, policy, pool)) is not None:
            yield refusal
    if policy.spec.profile.pd is not None:
        yield from _advice(policy.spec.profile.pd)


def _refusal(index: Index, policy: InferenceTrafficPolicy, pool: AnyPool) -> ir.Problem | None:
    """Return why a policy cannot apply to its pool."""
    stated = policy.spec.model_server_runtime
    if stated is not None and stated.strip().lower() not in RUNTIMES:
        text = f"{stated!r} is none of {', '.join(RUNTIMES)}"
        return ir.Problem(ACCEPTED, "UnsupportedValue", text, "spec.modelServerRuntime")
    if policy.spec.profile.pd is None:
        return None
    if _runtime(policy, pool) != "sglang":
        text = "prefill and decode can be apart only where modelServerRuntime is sglang"
        return ir.Problem(ACCEPTED, "UnsupportedValue", text, _WHERE)
    if isinstance(picker_of(index, pool), ir.Picker):
        return ir.Problem(ACCEPTED, "UnsupportedValue", f"{pool.key} is picked for by another picker", _WHERE)
    return None


def _runtime(policy: InferenceTrafficPolicy, pool: AnyPool) -> ir.Runtime | None:
    stated = policy.spec.model_server_runtime or pool.metadata.annotations.get(RUNTIME_ANNOTATION) or ""
    return RUNTIMES.get(stated.strip().lower())


def _strategy(profile: SplitProfile, ref: str | None) -> ir.Strategy:
    return "prefix cache" if ref == _PREFIX_CACHE and profile.traffic_policy.prefix_cache is not None else "default"


def _advice(profile: SplitProfile) -> Iterator[ir.Problem]:
    cache = profile.traffic_policy.prefix_cache
    if cache is not None and cache.mode not in _MODES:
        text = f"{cache.mode!r} is not supported; 'estimate' applies"
        yield ir.Problem(ir.ADVICE, "UnsupportedValue", text, f"{_WHERE}.trafficPolicy.prefixCache.mode")
    refs = {"prefillPolicyRef": profile.prefill_policy_ref, "decodePolicyRef": profile.decode_policy_ref}
    for field, ref in refs.items():
        if ref is not None and _strategy(profile, ref) == "default":
            text = f"trafficPolicy has no {ref!r} that is known; the default applies"
            yield ir.Problem(ir.ADVICE, "UnsupportedValue", text, f"{_WHERE}.{field}")
