"""Which code computed a number: one sha256 over what its source says, and over all that it uses.

A comment, a docstring, another layout, a moved or renamed file change no digest; a constant, an operator, a default
argument do. What counts is followed from definition to definition (`statements.py` takes the files apart): of a
family's file its `Model` counts and not how official checkpoints are converted. A digest is over the set of these
definitions, each with the definitions that its names stand for, so that it does not matter in which file one lies.
Nothing is imported; what is found at run time only, in a registry or by a computed name, is not seen.
"""

from __future__ import annotations

import hashlib
import site
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hear_models.subjects.statements import Import, SourceFile, Statement, read_source
from hear_models.zoo.families import GROUND

PACKAGE, ROOT = "hear_models", Path(__file__).parents[1]

# What finds, checks and downloads weights, and what reads a task, change no embedding either: weights and data are in
# an embedding's key themselves. Training decides the weights alone.
NOT_EMBEDDING = (
    *GROUND,  # says what went wrong, finds files or writes them, and changes no number
    "checkpoints",
    "cli",
    "datasets",
    "evaluation.embeddings.embedding_cache",
    "layers.masked",
    "pipeline.hub_methods",
    "subjects.code",
    "subjects.importing",
    "subjects.module",
    "subjects.naming",
    "subjects.randomness",
    "subjects.statements",
    "subjects.subject",
    "subjects.weights",
    "subjects.wording",
    "tasks",
    "training",
    "zoo",
)
TRAINING_METHODS = (  # of families' classes, and of those that they stand on
    "training_view",
    "decays",
    "trained_config",
    "reconstruct",
    "reconstruct_dropped",
    "reconstruct_replaced",
    "n_tokens",
    "crop_frames",
    "classify",
)
EXTRACTION = ("hear_models.evaluation.embeddings.extraction", "extract")


def code_sha256(*modules: str, files: Iterable[Path] = ()) -> str:
    """Of `modules` of this package, all that is in them, and of what they use of the package, in any depth.

    `files` are others that matter, by their bytes.
    """
    walk = _Walk(_Territory(ROOT.parent, PACKAGE, tuple(f"{PACKAGE}.{name}" for name in GROUND)))
    for module in modules:
        walk.reach(module)
    return walk.sha256(path.read_bytes() for path in files)


def own_code_sha256(module: str = "") -> str:
    """Of the code of this package that embeds: reading, the flow, writing; and of a family's module its `Model`."""
    return _own_walk(module).sha256()


def foreign_code_sha256(file: Path) -> str:
    """Of a Python file and everything that it imports from beside it, whole files, also where a function imports.

    Followed are modules of the same package, and of a module in a folder of somebody's own (not among the installed
    packages) its neighbours too. Other packages are taken as given, by name.
    """
    file = file.resolve()
    if file.suffix != ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return _foreign_walk(file).sha256()


def _own_walk(module: str) -> _Walk:
    left_out = tuple(f"{PACKAGE}.{name}" for name in NOT_EMBEDDING)
    walk = _Walk(_Territory(ROOT.parent, PACKAGE, left_out, TRAINING_METHODS))
    walk.reach(*EXTRACTION)
    if module:
        walk.reach(module, "Model")
    return walk


def _foreign_walk(file: Path) -> _Walk:
    package = file.parent
    while (package / "__init__.py").exists():
        package = package.parent
    *folders, stem = file.relative_to(package).with_suffix("").parts
    dotted = ".".join([*folders, *([] if stem == "__init__" else [stem.replace(".", "-")])])
    top = dotted.partition(".")[0] if _is_installed(package) else ""
    walk = _Walk(_Territory(package, top, entry=(dotted, file)), whole_files=True)
    walk.reach(dotted)
    return walk


def _is_installed(folder: Path) -> bool:
    """Whether installed packages lie directly in this folder, or Python's own."""
    known = [*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()]
    return folder in {Path(name).resolve() for name in known}


@dataclass(frozen=True)
class _Territory:
    """The modules that are followed.

    Args:
        folder: in which Python finds them.
        top: the one package of it that counts; "" for everything that lies there.
        left_out: modules and packages, by their dotted names, at which following ends; so does the top package itself.
        without: methods that do not count.
        entry: dotted name and file of a module that is not found by its name.
    """

    folder: Path
    top: str = ""
    left_out: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    entry: tuple[str, Path] | None = None

    def path(self, dotted: str) -> Path | None:
        """The file of a module of the territory; None for what is none."""
        if self.entry and dotted == self.entry[0]:
            return self.entry[1]
        if not dotted or (self.top and dotted.partition(".")[0] != self.top):
            return None
        path = self.folder.joinpath(*dotted.split("."))
        return next((p for p in (path / "__init__.py", path.with_name(f"{path.name}.py")) if p.is_file()), None)

    def is_left_out(self, dotted: str) -> bool:
        """Whether a module's code does not count."""
        return bool(self.left_out) and (
            dotted == self.top or any(f"{dotted}.".startswith(f"{name}.") for name in self.left_out)
        )


@dataclass(frozen=True)
class _Meaning:
    """What a name stands for: a text for the digest, and the statements behind it, each with its module."""

    text: str
    statements: tuple[tuple[str, Statement], ...] = ()


NOTHING = _Meaning("")  # a name of Python's own, of a function's variable, or of code that does not count


@dataclass
class _Walk:
    """From definition to definition, each once; `whole_files` takes every file that is come by as a whole."""

    land: _Territory
    whole_files: bool = False
    found: dict[str, set[str]] = field(default_factory=dict)  # module → digests of its statements with their uses
    _taken: set[tuple[str, str]] = field(default_factory=set)
    _todo: list[tuple[str, Statement]] = field(default_factory=list)
    _entered: set[str] = field(default_factory=set)
    _paths: dict[str, Path | None] = field(default_factory=dict)
    _sources: dict[str, SourceFile] = field(default_factory=dict)

    def reach(self, module: str, name: str = "") -> None:
        """Follow everything in a module, or one definition of it."""
        self._enter(module)
        self._todo += self._meaning_in(module, name.split(".") if name else [], ()).statements
        while self._todo:
            self._take(*self._todo.pop())

    def sha256(self, others: Iterable[bytes] = ()) -> str:
        """Of what was reached, and of other data."""
        digests = {digest for digests in self.found.values() for digest in digests}
        digests |= {hashlib.sha256(data).hexdigest() for data in others}
        return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()

    def _take(self, module: str, statement: Statement) -> None:
        if (module, statement.digest) in self._taken:
            return
        self._taken.add((module, statement.digest))
        self._enter(module)
        said = [statement.digest]
        for name in statement.uses:
            for meaning in self._meanings(module, statement, name):
                said.append(f"{name}={meaning.text}")
                self._todo += meaning.statements
        if "*" in statement.imports:
            for meaning in self._imported(module, statement.imports["*"], [], ()):
                said.append(f"*={meaning.text}")
                self._todo += meaning.statements
        self.found.setdefault(module, set()).add(hashlib.sha256("\n".join(said).encode()).hexdigest())

    def _enter(self, module: str) -> None:
        """Coming by a module for the first time: what importing it runs."""
        if module in self._entered:
            return
        self._entered.add(module)
        source = self._source(module)
        for name, statement in source.definitions.items():  # a decorator of ours may put it into a table
            if any(
                meaning.statements
                for decorator in statement.decorators
                for meaning in self._meanings(module, statement, decorator)
            ):
                self._todo.append((module, source.definitions[name]))
        parent = module.rpartition(".")[0]
        if parent and self._path(parent) and not self.land.is_left_out(parent):
            package = self._source(parent)
            if self.whole_files or package.whole:
                self._todo += [(parent, statement) for statement in package.statements]
            self._enter(parent)
        if not self.whole_files:
            return
        self._todo += [(module, statement) for statement in source.statements]
        said = []
        for name, imports in source.imports.items():
            said.append(f"{name}={' '.join(meaning.text for meaning in self._imported(module, imports, [], ()))}")
        self.found.setdefault(module, set()).add(hashlib.sha256("\n".join(sorted(said)).encode()).hexdigest())
        for found in source.imported:
            dotted = self._absolute(module, found)
            for name in (dotted, f"{dotted}.{found.name}" if found.name else ""):
                if self._path(name) is not None:
                    self._enter(name)

    def _meanings(self, module: str, statement: Statement, name: str) -> Iterator[_Meaning]:
        """What a name in a statement stands for: one thing, or what it was imported as in several branches."""
        first, *rest = name.split(".")
        if first in statement.imports:
            yield from self._imported(module, statement.imports[first], rest, ())
        else:
            yield self._meaning_in(module, [first, *rest], (), inside=True)

    def _imported(
        self, module: str, imports: Iterable[Import], rest: list[str], seen: tuple[str, ...]
    ) -> Iterator[_Meaning]:
        for found in imports:
            dotted = self._absolute(module, found)
            name = "" if found.name == "*" else found.name
            if self._path(dotted) is None:
                yield _Meaning(f"outside {dotted}:{found.name}")
            else:
                yield self._meaning_in(dotted, [*([name] if name else []), *rest], seen)

    def _meaning_in(self, module: str, names: list[str], seen: tuple[str, ...], *, inside: bool = False) -> _Meaning:
        """What names, one dot after the other, stand for in a module; seen from `inside`, an unknown one is nothing."""
        source = self._source(module)
        here = f"{module}:{'.'.join(names)}"
        if names and here not in seen:
            if names[0] in source.definitions:
                if self.land.is_left_out(module):
                    return NOTHING
                statement = source.definitions[names[0]]
                return _Meaning(statement.digest, ((module, statement),))
            if names[0] in source.imports:
                found = list(self._imported(module, source.imports[names[0]], names[1:], (*seen, here)))
                return _Meaning(
                    " ".join(meaning.text for meaning in found),
                    tuple(statement for meaning in found for statement in meaning.statements),
                )
            if not inside and self._path(f"{module}.{names[0]}") is not None:
                return self._meaning_in(f"{module}.{names[0]}", names[1:], (*seen, here))
        if inside or self.land.is_left_out(module):
            return NOTHING
        statements = tuple((module, statement) for statement in source.statements)
        return _Meaning(" ".join(sorted(statement.digest for _, statement in statements)), statements)

    def _absolute(self, module: str, found: Import) -> str:
        """The dotted name of the module of an import."""
        if not found.level:
            return found.module
        path = self._path(module)
        package = module.split(".") if path is not None and path.name == "__init__.py" else module.split(".")[:-1]
        package = package[: len(package) - found.level + 1]
        return ".".join([*package, *filter(None, [found.module])])

    def _path(self, dotted: str) -> Path | None:
        if dotted not in self._paths:
            self._paths[dotted] = self.land.path(dotted)
        return self._paths[dotted]

    def _source(self, dotted: str) -> SourceFile:
        if dotted not in self._sources:
            path = self._path(dotted)
            assert path is not None  # every caller has looked
            self._sources[dotted] = read_source(path.read_bytes(), self.land.without)
        return self._sources[dotted]
