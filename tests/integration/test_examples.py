"""Every example's script shows what it should."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", sorted(script.parent.name for script in EXAMPLES.glob("*/show.py")))
def test_example_shows_what_it_should(name: str) -> None:
    command = [sys.executable, str(EXAMPLES / name / "show.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # Ten lines suffice.
    assert len((EXAMPLES / name / "README.md").read_text().splitlines()) <= 12
