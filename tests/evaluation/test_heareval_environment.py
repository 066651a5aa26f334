"""The environment of the released kit: what is pinned, and that a build is whole or not there."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hear_models import files
from hear_models.evaluation.judges import heareval_environment as environment

KIT_WHEEL = "593ccb8a6d651f0f974992768438f388ba59f16b575d945346c5d7ec63f8082f"  # sha256 of the wheel on PyPI
PIN = re.compile(r"([A-Za-z0-9_.-]+)==(\S+)((?: ; [^\\]+)?)")


def pins() -> dict[str, list[tuple[str, list[str]]]]:
    """Package → (version with its marker, hashes) of each line of the recipe."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for path in (environment.REQUIREMENTS, environment.SOURCES):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        for entry in "\n".join(lines).replace("\\\n", " ").splitlines():
            requirement, *hashes = entry.split(" --hash=sha256:")
            match = PIN.fullmatch(requirement.strip())
            assert match, f"{path.name}: {entry}"
            found.setdefault(match[1].lower(), []).append((match[2] + match[3], [h.strip() for h in hashes]))
    return found


def test_every_package_of_the_recipe_has_one_version_and_its_hashes():
    for name, entries in pins().items():
        for version, hashes in entries:
            assert hashes and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes), (name, version)
        assert len(entries) == 1 or all("python_version" in version for version, _ in entries), name


def test_the_kit_is_the_released_wheel_and_nothing_brings_tensorflow_or_another_torch():
    recipe = pins()
    assert recipe["heareval"] == [("2021.1.3", [KIT_WHEEL])]
    assert not {"tensorflow", "tensorflow-cpu", "torch", "numpy"} & set(recipe)
    assert recipe["pytorch-lightning"][0][0].startswith("1.9.")
    assert int(recipe["setuptools"][0][0].split(".")[0]) < 81


@pytest.mark.skipif(sys.platform == "win32", reason="the kit is not pinned for Windows")
class TestBuilding:
    @pytest.fixture(autouse=True)
    def away_from_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
        for name in ("PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_NO_INDEX", "1")

    @pytest.fixture
    def recipe(self, tmp_path, monkeypatch) -> Path:
        """A recipe of two packages that pip finds without a network."""
        shelf = tmp_path / "shelf"
        shelf.mkdir()
        for name, path in (("hm_tiny_kit", "REQUIREMENTS"), ("hm_tiny_source", "SOURCES")):
            wheel = tiny_wheel(shelf, name)
            lock = tmp_path / f"{path}.txt"
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            lock.write_text(f"# pinned\n{name}==1.0 \\\n    --hash=sha256:{digest}\n")
            monkeypatch.setattr(environment, path, lock)
        monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
        return tmp_path / "REQUIREMENTS.txt"

    def left_over(self, tmp_path: Path) -> list[str]:
        return sorted(entry.name for entry in (tmp_path / "cache").iterdir() if entry.is_dir())

    def test_is_built_once_and_found_again(self, recipe, tmp_path):
        said: list[str] = []
        folder = environment.ensure_environment(said.append)
        assert (folder / "hm_tiny_kit.py").is_file() and (folder / "hm_tiny_source.py").is_file()
        assert self.left_over(tmp_path) == [folder.name] and len(said) == 1 and environment.is_built()
        inode = folder.stat().st_ino
        assert environment.ensure_environment(said.append).stat().st_ino == inode and len(said) == 1

    def test_another_recipe_is_another_environment(self, recipe):
        before = environment.environment_folder()
        recipe.write_text(recipe.read_text().replace("1.0", "1.1"))
        assert environment.environment_folder() != before

    def test_a_package_with_another_hash_is_refused_and_leaves_nothing(self, recipe, tmp_path):
        text = recipe.read_text()
        recipe.write_text(text[:-5] + ("0000\n" if text[-5:-1] != "0000" else "1111\n"))
        with pytest.raises(environment.JudgeError, match="--judge builtin"):
            environment.ensure_environment()
        assert self.left_over(tmp_path) == []

    @pytest.mark.parametrize(
        ("variables", "reason"),
        [
            ({"PIP_NO_INDEX": "1"}, "No matching distribution found"),
            ({"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}, "index cannot be reached"),
        ],
        ids=["no index", "nobody answers"],
    )
    def test_without_a_network_one_sentence_names_the_builtin_judge(self, variables, reason, tmp_path, monkeypatch):
        monkeypatch.delenv("PIP_NO_INDEX")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(environment.JudgeError, match=reason) as error:
            environment.ensure_environment()
        assert "--judge builtin" in str(error.value) and "\n" not in str(error.value)
        assert self.left_over(tmp_path) == []

    def test_an_unknown_python_is_refused_before_anything_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(environment, "PYTHONS", ((3, 7),))
        with pytest.raises(environment.JudgeError, match="--judge builtin"):
            environment.ensure_environment()
        assert not (tmp_path / "cache").exists()

    def test_what_a_killed_build_left_is_removed_by_the_next_one(self, recipe, tmp_path):
        litter = environment.environment_folder().parent / f"{files.BEGIN}abc{files.END}"
        (litter / "numpy").mkdir(parents=True)
        assert not environment.is_built()
        assert self.left_over(tmp_path) != [] and environment.ensure_environment()
        assert self.left_over(tmp_path) == [environment.environment_folder().name]

    def test_two_processes_at_once_build_one_environment(self, recipe, tmp_path):
        code = (
            "import sys; from pathlib import Path\n"
            "from hear_models.evaluation.judges import heareval_environment as e\n"
            f"e.REQUIREMENTS, e.SOURCES = Path({str(environment.REQUIREMENTS)!r}), Path({str(environment.SOURCES)!r})\n"
            "print(e.ensure_environment(lambda line: print(line, file=sys.stderr)))"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        results = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], results
        assert results[0][0] == results[1][0] and self.left_over(tmp_path) == [Path(results[0][0].strip()).name]
        assert sum("building" in words for _, words in results) == 1


def tiny_wheel(folder: Path, name: str) -> Path:
    """A wheel with one module."""
    path, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_a_module_that_lies_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / "build.log").open("w") as log:
        environment._run([sys.executable, "-m", "pip", "--version"], log)
    assert not list(tmp_path.rglob("ran"))
