"""What can be known of the images without an engine: that they say what is there, and that what they start starts."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from compose import ROOT, dockerfile

from pointsman.bootstrap import binary

IMAGES = ROOT / "deploy" / "images"
DOCKERFILES = [*IMAGES.glob("*.Dockerfile"), ROOT / "envoy" / "Dockerfile"]
LOCKS = sorted(IMAGES.glob("*.txt"))
NOWHERE = "192.0.2.1:1"

# What each image is to start, and what it says having loaded all that it needs: addresses that nobody here has.
STARTS = [
    ("pointsman", ["control-plane", "FOLDER", "--xds", NOWHERE, "--admin", NOWHERE], f"--xds {NOWHERE}: "),
    ("pointsman", ["picker", "--xds", NOWHERE, "--listen", NOWHERE, "--metrics", NOWHERE], "cannot assign"),
    ("pointsman", ["controller", "--kubeconfig", "FOLDER/none"], "FOLDER/none"),
    ("pointsman", ["drain-envoy", "--listen", NOWHERE, "--admin", NOWHERE], NOWHERE),
    ("pointsman", ["status", "FOLDER:1"], "FOLDER:1"),
    ("simulator", ["vllm", "serve", "m", "--host", "192.0.2.1", "--port", "1"], f"pointsman: {NOWHERE}: "),
    ("lora-syncer", ["--config"], "expected one argument"),
]


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", DOCKERFILES, ids=str)
def test_an_image_names_what_is_there_and_runs_as_nobody(path: Path) -> None:
    said = dockerfile(path)
    assert said["ARG"][0][0].startswith("BASE=")
    assert {words[0] for words in said["FROM"]} == {"${BASE}"}
    assert said["USER"] == [["65532:65532"]]
    sources = [name for words in said.get("COPY", ()) if not words[0].startswith("--") for name in words[:-1]]
    assert all((ROOT / name).exists() for name in sources)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not any(name.split("/")[0] in ignored for name in sources)
    for name in re.findall(r"-r locks/(\S+)", path.read_text()):
        assert IMAGES / name in LOCKS


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_an_image_has_the_packages_that_are_tested(path: Path) -> None:
    tested = pins(ROOT / "requirements.lock")
    assert pins(path).items() <= tested.items(), "`make lock` writes it anew"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each image a folder with the packages that it would have, and no others."""
    found = {}
    for path in LOCKS:
        site = found[path.stem] = tmp_path_factory.mktemp(path.stem)
        for name in pins(path):
            try:
                files = distribution(name).files or ()
            except PackageNotFoundError:
                continue  # of another platform
            for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))
        for package in ("pointsman", "picker", "protos", "resources", "sources", "translators", "xds", "simulator"):
            (site / package).symlink_to(ROOT / package)
        (site / "lora_syncer").symlink_to(ROOT / "lora_syncer")
    return found


@pytest.mark.parametrize(("image", "arguments", "says"), STARTS, ids=lambda value: str(value)[:40])
def test_what_an_image_starts_starts(
    image: str, arguments: list[str], says: str, sites: dict[str, Path], tmp_path: Path
) -> None:
    (entrypoint,) = dockerfile(IMAGES / f"{image}.Dockerfile")["ENTRYPOINT"]
    program = entrypoint[1:] if entrypoint[0] == "python" else ["-m", *entrypoint]
    words = [word.replace("FOLDER", str(tmp_path)) for word in arguments]
    done = subprocess.run(
        # -S: nothing but what PYTHONPATH names.
        [sys.executable, "-S", "-P", *program, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(sites[image])},
        timeout=60,
    )
    assert says.replace("FOLDER", str(tmp_path)) in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_what_is_built_has_what_the_programs_read(tmp_path: Path) -> None:
    ignored = {*(ROOT / ".dockerignore").read_text().split(), ".dockerignore"}
    (tmp_path / "src").mkdir()
    for path in ROOT.iterdir():
        if path.name not in ignored and not path.name.startswith(".") and not path.name.endswith(".egg-info"):
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, tmp_path / "src" / path.name, **({"symlinks": True} if path.is_dir() else {}))
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path, "."]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, cwd=tmp_path / "src")
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in ("bootstrap.yaml", "cluster-bootstrap.yaml"):
            assert archive.read(f"pointsman/{name}") == (ROOT / "envoy" / name).read_bytes()
    packages = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "benchmarks"]
    wanted = {str(path.relative_to(ROOT)) for package in packages for path in package.rglob("*.py")}
    assert wanted <= names


def test_the_image_of_envoy_starts_it() -> None:
    said = dockerfile(ROOT / "envoy" / "Dockerfile")
    (entrypoint,), (arguments,) = said["ENTRYPOINT"], said["CMD"]
    assert entrypoint == ["/usr/local/bin/envoy"]
    assert "version" in subprocess.run([binary(), *arguments], capture_output=True, text=True, check=True).stdout


def test_the_simulator_is_called_by_the_names_of_the_real_programs(tmp_path: Path) -> None:
    (tmp_path / "pointsman").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pointsman").chmod(0o755)
    for name, line in (("vllm", "vllm serve m"), ("python3", "python3 -m sglang.launch_server --model-path m")):
        environment = {"PATH": f"{IMAGES / 'simulated'}:{tmp_path}:/bin:/usr/bin"}
        said = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, check=True).stdout  # noqa: S607 - on that path
        assert said.split() == ["model-server", *line.split()], name
