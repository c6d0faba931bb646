import stat
import tempfile
from pathlib import Path

import pytest

from pointsman.runtime import Runtime, make_directory


async def test_the_directory_is_private_and_gone_afterwards() -> None:
    async with Runtime() as runtime:
        directory = runtime.directory
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert runtime.socket("xds") == f"unix:{directory}/xds.sock"
        (directory / "left").touch()
    assert not directory.exists()


async def test_it_is_gone_after_an_error_too() -> None:
    runtime = Runtime()
    with pytest.raises(KeyError):
        async with runtime:
            raise KeyError
    assert not runtime.directory.exists()


def test_a_long_temporary_path_is_not_used_for_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    directory = make_directory()
    try:
        assert len(str(directory / "control-plane.sock")) < 100
        assert not list(deep.iterdir())
    finally:
        directory.rmdir()
