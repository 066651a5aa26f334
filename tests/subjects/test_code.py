"""What changes a code digest and what does not: the arithmetic, and nothing that only people read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hear_models
from hear_models.subjects import code
from hear_models.subjects.code import NOT_EMBEDDING, code_sha256, foreign_code_sha256, own_code_sha256
from hear_models.subjects.statements import read_source

PACKAGE = Path(hear_models.__file__).parent
BUILTIN = "hear_models.evaluation.judges.builtin"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's source in a folder where it may be changed."""
    root = tmp_path / "hear_models"
    for path in PACKAGE.rglob("*.py"):
        target = root / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    monkeypatch.setattr(code, "ROOT", root)
    return root


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} has no {old!r} any more"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def of_mae() -> str:
    return own_code_sha256("hear_models.mae")


# ------------------------------------------------------------------------------------------------------ unchanged
def comments(root: Path) -> None:
    replace(root / "layers/transformer.py", "LAYER_NORM_EPS =", "# a reworded comment\n\n\nLAYER_NORM_EPS =")
    replace(root / "evaluation/judges/protocols.py", "\n@dataclass", "\n\n# why\n@dataclass")


def docstrings(root: Path) -> None:
    replace(root / "layers/transformer.py", '"""', '"""Reworded. ')
    replace(root / "pipeline/model.py", '    """A model of the HEAR 2021 API:', '    """Said otherwise.')
    replace(root / "evaluation/judges/builtin.py", '"""', '"""Reworded. ')


def layout(root: Path) -> None:
    replace(root / "layers/attention.py", "\n\nclass ", "\n\n\n\n\nclass ")
    replace(root / "layers/transformer.py", "LAYER_NORM_EPS = 1e-6", "LAYER_NORM_EPS = (\n    0.000001\n)")
    replace(root / "evaluation/judges/rows.py", "\n\n", "\n\n\n")


def a_message(root: Path) -> None:
    replace(root / "pipeline/model.py", "audio holds no clips", "there is not one clip")


def hub_methods(root: Path) -> None:
    replace(root / "pipeline/hub_methods.py", "family: ClassVar[str]", "family: ClassVar[str]\n    more = 1")


def training_code(root: Path) -> None:
    replace(root / "layers/masked.py", "\n\n\n", "\n\n\nMORE = 1\n\n\n")
    replace(root / "mwmae.py", "start = int(rng.integers(0,", "start = int(rng.integers(1,")
    replace(root / "mwmae.py", "pixel_ddof=0", "pixel_ddof=1")


def checkpoint_code(root: Path) -> None:
    replace(root / "checkpoints/mapping.py", "\n\n\n", "\n\n\nMORE = 1\n\n\n")
    replace(root / "mae.py", 'format="flax"', 'format="torch"')
    replace(root / "zoo/load.py", "SEED_OF_UNTRAINED = 0", "SEED_OF_UNTRAINED = 1")


def another_family(root: Path) -> None:
    replace(root / "logmel_stats.py", "correction=0", "correction=1")


def a_moved_function(root: Path) -> None:
    patches = root / "layers/patches.py"
    text = patches.read_text(encoding="utf-8")
    start = text.index("def sincos_1d(")
    end = text.find("\n\n\n", start)
    moved = text[start : end if end > 0 else len(text)]
    patches.write_text(
        text.replace(moved, "").replace(
            "import torch\n", "import torch\n\nfrom hear_models.layers.init import sincos_1d\n", 1
        )
    )
    with open(root / "layers/init.py", "a", encoding="utf-8") as file:
        file.write(f"\n\n{moved}\n")


def a_renamed_file(root: Path) -> None:
    (root / "layers/transformer.py").rename(root / "layers/encoder_blocks.py")
    (root / "evaluation/judges/rows.py").rename(root / "evaluation/judges/packed_rows.py")
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        new = text.replace("layers.transformer import", "layers.encoder_blocks import")
        new = new.replace("judges.rows import", "judges.packed_rows import")
        if new != text:
            path.write_text(new, encoding="utf-8")


UNCHANGED = (
    comments,
    docstrings,
    layout,
    a_message,
    hub_methods,
    training_code,
    checkpoint_code,
    another_family,
    a_moved_function,
    a_renamed_file,
)


@pytest.mark.parametrize("change", UNCHANGED, ids=lambda change: change.__name__)
def test_what_only_people_read_and_what_embeds_nothing_changes_no_digest(copy: Path, change: Callable[[Path], None]):
    before = of_mae(), own_code_sha256(), code_sha256(BUILTIN)
    change(copy)
    assert (of_mae(), own_code_sha256(), code_sha256(BUILTIN)) == before


# -------------------------------------------------------------------------------------------------------- changed
CHANGED = {
    "an epsilon": ("layers/transformer.py", "LAYER_NORM_EPS = 1e-6", "LAYER_NORM_EPS = 1e-5"),
    "a constant": ("mwmae.py", "STATISTICS_EPS = 1e-8", "STATISTICS_EPS = 1e-7"),
    "a default argument": ("frontends/logmel.py", "hop_samples: int = 160", "hop_samples: int = 161"),
    "an operator": ("frontends/logmel.py", "mel + self.log_offset", "mel - self.log_offset"),
    "a default of a configuration": ("mae.py", "class_token: bool = True", "class_token: bool = False"),
    "the flow": ("pipeline/model.py", "clamp_min(1e-12)", "clamp_min(1e-11)"),
    "the reading of clips": ("evaluation/embeddings/reading.py", "CHUNK_S = 16.0", "CHUNK_S = 15.0"),
    "a function in a table": ("frontends/filterbanks.py", "def mel_filter_bank(", "X = 1\n\n\ndef mel_filter_bank(_x,"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_change_of_the_arithmetic_changes_the_digest(copy: Path, what: str):
    before = of_mae()
    file, old, new = CHANGED[what]
    replace(copy / file, old, new)
    assert of_mae() != before


def test_an_import_of_another_function_of_the_same_name_changes_the_digest(copy: Path):
    before = of_mae()
    (copy / "layers/other.py").write_text("def cut_patches(units, frames, bands):\n    return units\n")
    text = (copy / "pipeline/patch_model.py").read_text(encoding="utf-8")
    text = text.replace("import PatchEmbed, cut_patches, ", "import PatchEmbed, ", 1)
    text = text.replace(
        "from hear_models.layers.patches",
        "from hear_models.layers.other import cut_patches\nfrom hear_models.layers.patches",
        1,
    )
    (copy / "pipeline/patch_model.py").write_text(text, encoding="utf-8")
    assert of_mae() != before


def test_an_import_from_another_package_changes_the_digest(copy: Path):
    before = own_code_sha256()
    replace(
        copy / "pipeline/model.py", "from torch.nn.functional import pad", "from torch import constant_pad_nd as pad"
    )
    assert own_code_sha256() != before


def test_two_functions_of_one_name_that_change_places_change_the_digest(tmp_path):
    for name, number in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.py").write_text(f"def f():\n    return {number}\n\n\ndef {name}():\n    return f()\n")
    (tmp_path / "main.py").write_text("from a import a\nfrom b import b\n")
    before = foreign_code_sha256(tmp_path / "main.py")
    for name, number in (("a", 2), ("b", 1)):
        (tmp_path / f"{name}.py").write_text(f"def f():\n    return {number}\n\n\ndef {name}():\n    return f()\n")
    assert foreign_code_sha256(tmp_path / "main.py") != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("evaluation/judges/builtin.py", "def judge(", "MORE = 1\n\n\ndef judge("),  # the judge's own file counts whole
        ("evaluation/judges/protocols.py", "EVENT_POSTPROCESSING_GRID", "OTHER = EVENT_POSTPROCESSING_GRID"),
        ("metrics/clips.py", "LOWER_IS_BETTER = ", "LOWER_IS_BETTER = OTHER = "),
        (
            "evaluation/embeddings/folder.py",
            'event["end"] + 0.0001',
            'event["end"] + 0.0002',
        ),  # reached by the class of an argument
    ],
)
def test_what_a_judge_uses_counts(copy: Path, file: str, old: str, new: str):
    before = code_sha256(BUILTIN)
    replace(copy / file, old, new)
    assert code_sha256(BUILTIN) != before


def test_other_files_count_by_their_bytes(tmp_path):
    path = tmp_path / "recipe.txt"
    path.write_text("numpy==1")
    before = code_sha256(BUILTIN, files=[path])
    assert before != code_sha256(BUILTIN)
    path.rename(tmp_path / "other.txt")
    assert code_sha256(BUILTIN, files=[tmp_path / "other.txt"]) == before
    (tmp_path / "other.txt").write_text("numpy==2")
    assert code_sha256(BUILTIN, files=[tmp_path / "other.txt"]) != before


def test_a_familys_code_counts_and_no_other_familys():
    def modules(family: str) -> set[str]:
        return {name.removeprefix("hear_models.") for name in code._own_walk(f"hear_models.{family}").found}

    mae = modules("mae")
    assert {"mae", "mwmae", "layers.attention", "layers.dense", "frontends.logmel", "pipeline.plan"} <= mae
    assert {"pipeline.model", "pipeline.encoders", "evaluation.embeddings.reading", "subjects.loaded"} <= mae
    assert not any(name.startswith(NOT_EMBEDDING) or name == "logmel_stats" for name in mae)
    assert "mwmae" not in modules("msm_mae") and "layers.attention" in modules("msm_mae")


def test_every_room_that_is_left_out_is_there():
    for room in NOT_EMBEDDING:
        path = PACKAGE.joinpath(*room.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"{room} is no room any more"


# -------------------------------------------------------------------------------------------------------- foreign
FILES = {
    "main.py": "import part\nfrom pack.inner import deep\ndef f():\n    import late\n    return part.A\n",
    "part.py": "A = 1\n",
    "late.py": "B = 1\n",
    "unused.py": "C = 1\n",
    "pack/__init__.py": "",
    "pack/inner/__init__.py": "from . import deep\nfrom ..side import x\n",
    "pack/inner/deep.py": "import json\n",
    "pack/side.py": "x = 1\n",
    "pack/effect.py": "x = 1\n",
}


def lay_out(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "main.py"


def test_the_code_of_a_module_counts_with_what_it_imports_beside_it(tmp_path):
    main = lay_out(tmp_path / "here")
    before = foreign_code_sha256(main)
    for name, text in FILES.items():
        path = tmp_path / "here" / name
        path.write_text(f'"""Documented."""\n\n# and explained\n{text}')
        assert foreign_code_sha256(main) == before, name
        path.write_text(f"{text}\nD = 2\n")
        assert (foreign_code_sha256(main) != before) == (name not in ("unused.py", "pack/effect.py")), name
        path.write_text(text)
    assert foreign_code_sha256(main) == before
    assert foreign_code_sha256(lay_out(tmp_path / "elsewhere")) == before, "where it lies does not matter"
    main.rename(main.with_name("hear.v2.py"))
    assert foreign_code_sha256(main.with_name("hear.v2.py")) == before, "nor what it is called"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("x = 1.0", "x = (1.0)  # one", True),
        ("f(a, b)", "f(a,\n      b,)", True),
        ("'text'", '"text"', True),
        ("eps=1e-6", "eps=1e-5", False),
        ("a + b", "a - b", False),
        ("a + b", "b + a", False),
        ("'text'", "'test'", False),
        ("import numpy as np", "import torch as np", False),
        ("{a:.3f}", "{a:.2f}", False),
        ("x = 1.0", "x = 1", False),
        ("x = 1.0", "x = -1.0", False),
        ("self.y = 1", "self.y = 2", False),
    ],
)
def test_a_foreign_module_is_judged_by_what_it_computes(tmp_path, old, new, same):
    text = (
        "import numpy as np\nx = 1.0\n\ndef f(a, b, *, eps=1e-6):\n    return np.add(a + b, eps), 'text', f'{a:.3f}'\n"
        "\nclass C:\n    def __init__(self):\n        self.y = 1\n\ndef g(a, b):\n    return f(a, b)\n"
    )
    path = tmp_path / "hear.py"
    path.write_text(text)
    before = foreign_code_sha256(path)
    assert old in text
    path.write_text(text.replace(old, new))
    assert (foreign_code_sha256(path) == before) == same


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("X = 1\nX = 2\n", "X = 2\nX = 1\n"),  # defined twice: the order matters
        ("import a\na.b = 1\na.b = 2\n", "import a\na.b = 2\na.b = 1\n"),
        (
            "try:\n import a as m\nexcept OSError:\n import b as m\n",
            "try:\n import b as m\nexcept OSError:\n import a as m\n",
        ),
        ("from a import *\n", "from b import *\n"),
        ("if 1:\n    X = 1\n", "if 1:\n    X = 2\n"),
        ("def f(:\n", "def g(:\n"),  # Python will say so when it is imported
        ("x = '\\ud800'\n", "x = '\\ud801'\n"),
        ("x = 0x" + "f" * 5000, "x = 0x" + "e" * 5000),
        ("m = __import__('json')\n", "m = __import__('csv')\n"),
    ],
)
def test_what_cannot_be_taken_apart_counts_as_it_stands(tmp_path, text, other):
    digests = set()
    for source in (text, other):
        (tmp_path / "hear.py").write_text(source)
        digests.add(foreign_code_sha256(tmp_path / "hear.py"))
    assert len(digests) == 2


def test_a_module_imported_by_a_name_in_quotes_counts(tmp_path):
    (tmp_path / "hear.py").write_text(
        "from importlib import import_module\n\n\ndef f():\n    return import_module('late')\n"
    )
    digests = set()
    for number in (1, 2):
        (tmp_path / "late.py").write_text(f"A = {number}\n")
        digests.add(foreign_code_sha256(tmp_path / "hear.py"))
    assert len(digests) == 2


def test_what_is_no_python_source_counts_by_its_bytes(tmp_path):
    path = tmp_path / "hear.so"
    path.write_bytes(b"\x7fELF 1")
    before = foreign_code_sha256(path)
    path.write_bytes(b"\x7fELF 2")
    assert foreign_code_sha256(path) != before


def test_an_installed_module_does_not_count_its_neighbours():
    import click

    walk = code._foreign_walk(Path(click.__file__).resolve())
    assert {name.partition(".")[0] for name in walk.found} == {"click"} and len(walk.found) > 5
    assert foreign_code_sha256(Path(pytest.__file__)) != foreign_code_sha256(Path(click.__file__))


# ------------------------------------------------------------------------------------------------ across versions
EVERYTHING = '''
"""Docstring."""
from __future__ import annotations
import os, sys as system
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Type

@decorated(1, key="x")
class C(Base, metaclass=Meta):
    """Docstring."""
    field: int = 0x10
    other: "Type" = -1.5e-3j

    async def f(self, a, /, b: Type = None, *c, d=..., **e) -> Type:
        """Docstring."""
        global G
        x = f"{a!r:>{b}}{{}}" "joined" f"{a=} {b:%H:%M} {f'{c}'} {d['k']:}" + rb"\\x00".decode()
        if (n := len(x)) > 10 and not a is None: pass
        for i, *rest in (lambda z: z @ a)(x)[1:2, ::3]:
            await i; continue
        else:
            raise ValueError(f"no {n} words")
        try:
            with open(x) as y, y: yield {**e, "k": {v for v in c if v}, "\\N{BULLET}é": [*c]}
        except (A, B) as error:
            raise Other("text", 3, k=1) from error
        finally:
            del x[0], a.b.c
        match a:
            case {"k": [1, *_], **r} | C(x=None, k=r) if r: return 1_000
            case _: return True, 1e100, "\\ud800", 10**5, x.y().z
'''


def test_a_digest_is_the_same_under_every_version_of_python():
    """Records travel between machines; CI runs this under all of them."""
    source = read_source(EVERYTHING.encode(), ("left_out",))
    assert source.definitions["C"].digest == "b145582cdc17fe52e9da2d6cf172eca57f7f5ffa63bc56d28a85ab83cd4822b5"
    assert (
        source.whole is None
        and set(source.definitions) == {"C"}
        and set(source.imports) == {"os", "system", "TYPE_CHECKING", "Type"}
    )


def test_no_digest_needs_torch():
    program = (
        "import sys, time\nfrom hear_models.subjects.code import code_sha256, own_code_sha256\n"
        f"own_code_sha256('hear_models.mwmae'), code_sha256('{BUILTIN}')\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
