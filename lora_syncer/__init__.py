"""The LoRA syncer: a sidecar that keeps a model server's adapters as a ConfigMap names them."""

from lora_syncer.config import Adapter, Config, ConfigError, decode
from lora_syncer.options import Settings, parse
from lora_syncer.plan import Action, Conflict, Kind, Plan, Present, plan
from lora_syncer.program import main
from lora_syncer.syncer import Syncer

__all__ = [
    "Action",
    "Adapter",
    "Config",
    "ConfigError",
    "Conflict",
    "Kind",
    "Plan",
    "Present",
    "Settings",
    "Syncer",
    "decode",
    "main",
    "parse",
    "plan",
]
