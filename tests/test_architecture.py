"""Keeps the house as planned: no import goes up a floor of docs/architecture.md, families are HEAR modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hear_models

PACKAGE = Path(hear_models.__file__).parent
DOC = Path(__file__).parent.parent / "docs" / "architecture.md"

FAMILIES_ROOM = "families"  # every module directly in hear_models/ that is named on no other floor
FLOORS = {
    0: {
        "errors",
        "extras",
        "fields",
        "files",
        "foreign",
        "locks",
        "markdown",
        "pages",
        "pictures",
        "resources",
        "seals",
        "version",
    },
    1: {"layers", "frontends", "pipeline", "checkpoints", "metrics", "execution", "fetching"},
    2: {"zoo"},
    3: {FAMILIES_ROOM},
    4: {"analysis", "subjects"},
    5: {"tasks", "speaker", "training", "validation", "corpus", "datasets"},
    6: {"evaluation.embeddings", "exploration", "sklearn"},
    7: {"classification", "evaluation.judges"},
    8: {"evaluation.runs"},
    9: {"evaluation.board", "rereading"},
    10: {"cli"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
PARENTS = {room.split(".")[0] for room in FLOOR_OF if "." in room}  # rooms that are divided
FAMILIES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in {"__init__", *FLOORS[0]})
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(dotted: str) -> str:
    """The room of a module of this package, `evaluation.judges.builtin`: `evaluation.judges`."""
    parts = dotted.split(".")
    if parts[0] in PARENTS:
        return ".".join(parts[:2])
    return FAMILIES_ROOM if parts[0] in FAMILIES else parts[0]


def module_of(path: Path) -> str:
    """A source file as a dotted name below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import anywhere in the file: inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def rooms_used(source: str, package: str) -> list[tuple[int, str]]:
    """(line, room) of every import from hear_models and every `hear_models.ROOM`; dunders are nobody's.

    A divided room that is named as a whole (`from hear_models import evaluation`) is its own docstring: nobody's too.
    """
    tree = ast.parse(source)
    found = [
        (line, name.removeprefix("hear_models."))
        for line, name in imports(tree, package)
        if name.startswith("hear_models.")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hear_models":
            found.append((node.lineno, node.attr))
    return [(line, room_of(name)) for line, name in found if not name.startswith("__")]


def complaints(path: Path) -> list[str]:
    package = ".".join(["hear_models", *path.relative_to(PACKAGE).parts[:-1]])
    own = FLOOR_OF.get(room_of(module_of(path)), 99)
    return [
        f"{path.relative_to(PACKAGE)}:{line} (floor {own}) imports {room} (floor {FLOOR_OF.get(room, 'unknown')})"
        for line, room in rooms_used(path.read_text(encoding="utf-8"), package)
        if room not in PARENTS and FLOOR_OF.get(room, 99) > own
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_an_import_never_goes_up(path):
    assert complaints(path) == []


def test_no_family_is_imported_by_name_below_its_floor():
    """The zoo finds a family by the name in a manifest; a name written into its code would tie it to one paper."""
    for path in SOURCES:
        if FLOOR_OF.get(room_of(module_of(path)), 99) < 3:
            text = path.read_text(encoding="utf-8")
            assert not re.search(rf"import_module\(\s*['\"]hear_models\.({'|'.join(FAMILIES)})\b", text), path


def test_the_reader_of_imports_sees_every_form():
    source = (
        "import hear_models.zoo\nfrom hear_models import mwmae\nfrom hear_models.cli.main import main\n"
        "def f():\n    from ..validation import checks\n    from . import model\nfrom hear_models import __version__\n"
        "import hear_models\nprint(hear_models.__version__, hear_models.embed)\n"
    )
    assert [room for _, room in sorted(rooms_used(source, "hear_models.pipeline"))] == [
        "zoo",
        "families",
        "cli",
        "validation",
        "pipeline",
        "embed",
    ]


def test_the_floors_here_are_those_of_the_document():
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", DOC.read_text(encoding="utf-8"), re.MULTILINE)
    written = {
        int(floor): {name.removesuffix(".py").rstrip("/").replace("/", ".") for name in re.findall(r"`([^`]+)`", rooms)}
        for floor, rooms in rows
    }
    assert {floor: rooms or {FAMILIES_ROOM} for floor, rooms in written.items()} == FLOORS


def test_every_room_has_a_floor():
    rooms = {room_of(module_of(path)) for path in SOURCES} - PARENTS
    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_directly_in_the_package_is_a_hear_module(family):
    module = importlib.import_module(f"hear_models.{family}")
    path = inspect.signature(module.load_model).parameters["model_file_path"]
    assert path.default == "", "the kit calls load_model() and load_model(path), positionally"
    assert path.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name in ("get_scene_embeddings", "get_timestamp_embeddings"):
        assert list(inspect.signature(getattr(module, name)).parameters) == ["audio", "model"]
    assert hasattr(module, "Config") and hasattr(module, "Model")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_opens_with_why_it_exists(path):
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "the first line of a file says why it exists"
