"""What is generated and committed is what the .proto files say."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    for file in (ROOT / "protos").rglob("*.proto"):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    subprocess.run(
        ["/bin/sh", str(ROOT / "protos" / "generate.sh")],
        cwd=tmp_path,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    generated = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*_pb2.py*")}
    assert generated
    assert {name: (ROOT / name).read_bytes() for name in generated} == generated
