"""Model servers without GPUs: honest stand-ins for vLLM and SGLang on loopback addresses, for demos and tests."""

from simulator.commands import find_server
from simulator.faults import Fault, Mode
from simulator.fleet import Fleet, RunningPod
from simulator.manifests import write
from simulator.server import ModelServer, Site
from simulator.spec import CommandError, LoraModule, ServerSpec, Timing
from simulator.workloads import Plan, PodPlan, plan

__all__ = [
    "CommandError",
    "Fault",
    "Fleet",
    "LoraModule",
    "Mode",
    "ModelServer",
    "Plan",
    "PodPlan",
    "RunningPod",
    "ServerSpec",
    "Site",
    "Timing",
    "find_server",
    "plan",
    "write",
]
