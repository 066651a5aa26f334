"""Documentation that works: every `hear-models` command and every line of Python in README and docs is run here."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SKIP = "# not run by the tests:"  # as the first line of a block, followed by the reason
NEEDS = re.compile(r"# needs the package (\w+)\n")  # as the first line of a block: of the extra `dev`


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    where: str  # README.md:12
    language: str
    text: str

    @property
    def skipped(self) -> bool:
        return self.text.lstrip().startswith(SKIP)


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(f"{path.name}:{text.count(chr(10), 0, match.start()) + 1}", match[2], textwrap.dedent(match[3]))
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    ]


def is_missing(block: Block) -> bool:
    """Whether a block needs a package that is not installed; a folder of tests of the same name is none."""
    needs = NEEDS.match(block.text)
    spec = importlib.util.find_spec(needs[1]) if needs else None
    return bool(needs) and (spec is None or spec.origin is None)


def our_commands(shell: str) -> list[str]:
    """The `hear-models …` parts of a shell block; pip, pytest and git are left to .ci/run."""
    lines = shell.replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("#")[0].split("&&")]
    return [part for part in parts if part.startswith("hear-models")]


MY_PACKAGE = '''
"""A HEAR module of somebody else: the loudness of each band, in frames of 50 ms."""
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 16, 16

def load_model(model_file_path: str = ""):
    if model_file_path:
        raise ValueError(f"nothing is learned here, so there is nothing to load from {model_file_path}")
    return Model().eval()

def _frames(audio, model):
    if not isinstance(audio, torch.Tensor) or audio.ndim != 2 or not audio.is_floating_point() or audio.shape[-1] == 0:
        raise ValueError("audio must be a float tensor [clips, samples]")
    if not torch.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinity")
    model.eval()
    audio = audio.detach().float()
    steps = max(1, (audio.shape[1] + 400) // 800)  # a frame is kept if its centre lies in the clip
    missing = max(0, 800 * steps - audio.shape[1])
    frames = torch.nn.functional.pad(audio, (0, missing))[:, : 800 * steps].reshape(len(audio), steps, 800)
    bands = torch.fft.rfft(frames)[..., 1:401].abs().reshape(len(audio), steps, 16, 25).mean(-1)
    return torch.log(bands + 1e-3)

def get_timestamp_embeddings(audio, model):
    embeddings = _frames(audio, model)
    centres = torch.arange(embeddings.shape[1], dtype=torch.float64) * 50.0 + 25.0
    centres = centres.clamp(max=1000.0 * audio.shape[1] / 16000).float()  # matters for a clip below 25 ms
    return embeddings, centres.expand(len(audio), -1).clone()

def get_scene_embeddings(audio, model):
    return _frames(audio, model).mean(1)
'''


@pytest.fixture
def desk(tmp_path) -> Path:
    """A folder with what the documents speak of: `recordings/`, `events/`, `backgrounds/`, `my_package`, `my-flax-run`.

    The last is a mini checkpoint that the authors' code wrote: see tests/golden/mwmae.
    """
    for name, part in (("events", "fg"), ("backgrounds", "bg")):
        shutil.copytree(ROOT / "tests" / "golden" / "gise51" / "corpus" / part, tmp_path / name)
    (tmp_path / "my_package.py").write_text(MY_PACKAGE)
    shutil.copytree(ROOT / "tests" / "golden" / "mwmae" / "mwmae_mini", tmp_path / "my-flax-run")
    shutil.copytree(ROOT / "hear_models" / "_demo", tmp_path / "recordings", ignore=shutil.ignore_patterns("*.txt"))
    return tmp_path


def run(block: Block, command: str | list[str], folder: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "80"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{block.where}: {command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_every_line_of_python_in_the_documents_works(document, desk):
    for block in blocks(document):
        if block.skipped or is_missing(block):
            continue
        if block.language == "sh":
            for command in our_commands(block.text):
                run(block, command, desk)
        elif block.language == "toml" and (name := re.match(r"# ([\w-]+\.toml)\n", block.text)):
            (desk / name[1]).write_text(block.text)
        elif block.language == "python":
            run(block, [sys.executable, "-c", block.text], desk)


def test_a_block_that_is_not_run_says_why():
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.skipped:
                assert len(block.text.strip().splitlines()[0].removeprefix(SKIP).split()) >= 3, block.where


def test_no_command_hides_in_a_block_that_is_not_run():
    """Blocks of other languages are not looked at above: no command may stand in one."""
    for document in DOCUMENTS:
        for block in blocks(document):
            assert block.language == "sh" or not our_commands(block.text), block.where


def test_every_command_is_shown_somewhere():
    from hear_models.cli.main import COMMANDS

    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert [name for name in COMMANDS if f"hear-models {name}" not in text] == []


def test_every_model_stands_in_the_documents():
    from hear_models.zoo import list_models

    readme, families = (ROOT / "README.md").read_text("utf-8"), (ROOT / "docs" / "families.md").read_text("utf-8")
    families = re.sub(r"`(m\w+-base)-1l`, `-2l`, `-8l`", r"`\1-1l`, `\1-2l`, `\1-8l`", families)
    for entry in list_models():
        assert f"`{entry.family}`" in families, entry.family
        if entry.manifest.status == "untrained":  # a configuration
            assert f"`{entry.name}`" in families, entry.name
        else:
            row = re.search(rf"^\| `{entry.name}` \|.*\| {entry.scene_embedding_size}[ ,]", readme, re.MULTILINE)
            assert row, f"the README's table has no row of {entry.name} with {entry.scene_embedding_size} dimensions"


def test_the_tolerances_in_the_documents_are_those_of_the_tests():
    from golden_inputs import TOLERANCE

    table = (ROOT / "docs" / "families.md").read_text("utf-8").partition("### Precision")[2]
    written = dict(re.findall(r"^\| ([^|]+?) \| ([\d.e-]+) \|$", table, re.MULTILINE))
    assert {name: float(value) for name, value in written.items()} == TOLERANCE


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_link_to_a_file_of_the_project_leads_somewhere(document):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_the_readme_says_what_was_not_measured():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "no HEAR score here was reproduced on the real tasks or with official weights" in text
    assert "no official weight file was ever opened by this project" in text
