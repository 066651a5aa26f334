"""What `pip install` gives a user: the wheel, built from the source archive, works alone, from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parent.parent
DATA = ("weights", "benchmarks/published")  # as in setup.py
NOT_SHIPPED = (".decoder.safetensors", ".log.jsonl", ".md")


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, without this process's import path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """A folder with the source archive of a clean copy of the project, and the wheel built from that archive."""
    copy, out = tmp_path_factory.mktemp("source") / "project", tmp_path_factory.mktemp("dist")
    leave = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__", "golden", "tests")
    shutil.copytree(ROOT, copy, ignore=lambda at, names: leave(at, names) | ({"runs"} if Path(at) == ROOT else set()))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(distributions) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of programs of a fresh environment that holds the wheel and nothing else.

    torch and the other dependencies are seen through the path of the environment that runs the tests, behind the fresh
    one: installing them again would need a network (`.ci/run` does that install).
    """
    folder = tmp_path_factory.mktemp("environment")
    builder = venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt")
    builder.create(folder)
    context = builder.ensure_directories(folder)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        context.env_exe,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    borrowed = "\n".join(dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))
    (site_packages(folder) / "borrowed.pth").write_text(borrowed + "\n")
    return Path(context.bin_path)


def site_packages(environment: Path) -> Path:
    (path,) = environment.rglob("site-packages")
    return path


@pytest.fixture
def empty(tmp_path) -> Path:
    """An empty working folder: the checkout cannot be what is imported."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_holds_the_package_only(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hear_models"}


def test_the_environment_got_no_package_of_another_name(installed):
    entries = {entry.name for entry in site_packages(installed.parent).iterdir()} - {"borrowed.pth", "__pycache__"}
    assert {name for name in entries if not name.endswith(".dist-info")} == {"hear_models"}


def test_wheel_and_source_archive_carry_every_manifest_checkpoint_and_published_table(wheel, distributions):
    in_wheel = zipfile.ZipFile(wheel)
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        in_archive = {name.partition("/")[2] for name in opened.getnames()}
    everything = (path for name in DATA for path in sorted((ROOT / name).rglob("*")))
    found = [path for path in everything if path.is_file() and not path.name.endswith(NOT_SHIPPED)]
    assert any(path.suffix == ".toml" for path in found), "weights/ holds no manifest"
    for path in found:
        name = path.relative_to(ROOT).as_posix()
        assert in_wheel.read(f"hear_models/_data/{name}") == path.read_bytes(), name
        assert name in in_archive


def test_the_wheel_carries_every_file_of_the_package(wheel):
    """Recipes, the recordings of the demo, the mark of typed packages: what a file list forgets first."""
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "hear_models").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"hear_models/py.typed", "hear_models/__init__.py"} <= ours
    assert ours <= set(zipfile.ZipFile(wheel).namelist())


def test_the_installed_program_embeds_a_recording_from_an_empty_folder(installed, empty):
    code = "import hear_models; print(hear_models.__file__)"
    where = Path(run(installed / "python", "-c", code, cwd=empty).strip())
    assert installed.parent in where.parents, "not the installed package was imported"

    rng = np.random.default_rng(0)
    soundfile.write(empty / "noise.wav", 0.1 * rng.standard_normal((44_100, 2)), 44_100)
    run(installed / "hear-models", "embed", "noise.wav", "--output", "embeddings", cwd=empty)
    (file,) = (empty / "embeddings").rglob("*.npz")
    scene = np.load(file)["embeddings"]
    assert scene.size and np.isfinite(scene).all()


def test_the_installed_program_runs_its_demo_from_an_empty_folder(installed, empty):
    assert "similar" in run(installed / "hear-models", "demo", cwd=empty).lower()
