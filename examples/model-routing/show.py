"""Asks both models, with short and long prompts, plain and streaming: each answer comes from the right pool."""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from pointsman.demo import run
from pointsman.installation import Options
from pointsman.ports import free_port

with tempfile.TemporaryDirectory() as made:
    folder = Path(shutil.copytree(Path(__file__).parent, Path(made) / "folder"))
    gateway = folder / "gateway.yaml"
    gateway.write_text(gateway.read_text(encoding="utf-8").replace("port: 8080", f"port: {free_port()}"))
    sys.exit(0 if asyncio.run(run(Options(folder=folder, simulate=True))) else 1)
