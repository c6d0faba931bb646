import os
import subprocess
import sys
from pathlib import Path

from pointsman import guard

GUARD = Path(guard.__file__)


def test_children_are_those_that_started_and_have_not_ended() -> None:
    assert guard.children(["+10\n", "+11\n", "-10\n", "nonsense\n", "+x\n", "+12"]) == {11, 12}


def test_end_of_input_kills_the_children_and_removes_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "runtime"
    directory.mkdir()
    (directory / "xds.sock").touch()
    sleeper = subprocess.Popen(["sleep", "600"])  # noqa: S607
    with subprocess.Popen(
        [sys.executable, "-I", "-S", GUARD, directory], stdin=subprocess.PIPE, start_new_session=True
    ) as running:
        assert running.stdin is not None
        running.stdin.write(f"+{sleeper.pid}\n".encode())
        running.stdin.close()
        assert sleeper.wait(timeout=10) == -9
        assert running.wait(timeout=10) == 0
    assert not directory.exists()


def test_a_directory_that_does_not_exist_is_no_trouble(tmp_path: Path) -> None:
    guard.remove(tmp_path / "none")
    guard.end([_gone()])


def _gone() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert process.pid != os.getpid()
    return process.pid
