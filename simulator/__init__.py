"""Model servers without GPUs: honest stand-ins for vLLM and SGLang on loopback addresses, for demos and tests."""

from simulator.bootstrap import DistantRooms
from simulator.commands import find_server
from simulator.endpoint_pickers import read_flags
from simulator.faults import Fault, Mode
from simulator.fleet import Fleet, RunningPod
from simulator.manifests import WRITTEN, Manifests
from simulator.rollout import Numbered, Recreate, Rolling, Scaled
from simulator.server import ModelServer, Site
from simulator.spec import CommandError, LoraModule, Role, ServerSpec, Timing
from simulator.workloads import Plan, PodPlan, WorkloadPlan, plan

__all__ = [
    "WRITTEN",
    "CommandError",
    "DistantRooms",
    "Fault",
    "Fleet",
    "LoraModule",
    "Manifests",
    "Mode",
    "ModelServer",
    "Numbered",
    "Plan",
    "PodPlan",
    "Recreate",
    "Role",
    "Rolling",
    "RunningPod",
    "Scaled",
    "ServerSpec",
    "Site",
    "Timing",
    "WorkloadPlan",
    "find_server",
    "plan",
    "read_flags",
]
