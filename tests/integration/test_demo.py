"""`pointsman demo` on the example that comes with it."""

import subprocess
import sys
from pathlib import Path

from pointsman.ports import port_to_keep


def test_every_answer_comes_from_the_right_pool(model_routing: Path) -> None:
    gateway = model_routing / "gateway.yaml"
    gateway.write_text(gateway.read_text().replace("port: 8080", f"port: {port_to_keep()}"))
    command = [sys.executable, "-P", "-m", "pointsman", "demo", str(model_routing)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *table, last = done.stdout.splitlines()
    assert last == "all 8 answers came from the right pool"
    for model, pool in (("qwen", "default/qwen-pool"), ("deepseek-r1", "default/deepseek-pool")):
        rows = [line for line in table if line.lstrip().startswith(f"{model} ")]
        kinds = [f"{kind}, {size}" for size in ("short", "200 KB") for kind in ("plain", "streaming")]
        assert [kind for row in rows for kind in kinds if kind in row] == kinds
        for row in rows:
            assert {pool, "200", "ok"} <= set(row.split()), row
