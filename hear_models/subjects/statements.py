"""A Python file as statements that say what is computed: what only people read, or only training runs, is gone.

Comments, docstrings, layout, annotations of functions, the words of an error and the imports of modules that are
followed leave no trace here. What a statement uses is listed beside it by name, for `code.py` to follow.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeGuard

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
UNREAD = {"ctx", "kind", "type_comment", "type_params", "type_ignores"}  # fields of the syntax tree that say nothing


@dataclass(frozen=True)
class Statement:
    """A definition (of a function, a class, a constant), or a file as a whole where it cannot be taken apart.

    `digest` is of the statement alone, `uses` the names in it with what follows the dots, `imports` what is imported
    inside of it, by name: all that a name may stand for.
    """

    digest: str
    uses: tuple[str, ...]
    imports: dict[str, tuple[Import, ...]] = field(default_factory=dict)
    decorators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Import:
    """What a name stands for that an import binds: a module, or with `name` something in it."""

    module: str
    name: str = ""
    level: int = 0  # dots in front


@dataclass(frozen=True)
class SourceFile:
    """A file: its definitions by name, and its imports. `whole`: the one statement of a file that is not taken apart.

    `imported` lists modules as they are written, wherever in the file; the second of `from a import b` may be one.
    """

    definitions: dict[str, Statement]
    imports: dict[str, tuple[Import, ...]]
    imported: tuple[Import, ...]
    whole: Statement | None = None

    @property
    def statements(self) -> tuple[Statement, ...]:
        """All of them."""
        return (self.whole,) if self.whole else tuple(self.definitions.values())


@lru_cache(maxsize=1024)
def read_source(data: bytes, without: tuple[str, ...] = ()) -> SourceFile:
    """A file's statements; methods named in `without` are left out of classes.

    A file is taken apart if it holds nothing but imports and definitions, each name defined once. Any other is one
    statement: what is not understood counts as it stands. So is what Python cannot read, byte by byte.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of somebody's escape sequences
            body = ast.parse(data).body
        return _taken_apart(body, without) or _as_a_whole(body, without)
    except (SyntaxError, ValueError, RecursionError):  # Python will tell when it imports the file
        whole = Statement(hashlib.sha256(data).hexdigest(), ())
        return SourceFile({}, {}, (), whole)


def _taken_apart(body: list[ast.stmt], without: tuple[str, ...]) -> SourceFile | None:
    definitions: dict[str, Statement] = {}
    reader = _Reader(without)  # of the imports
    reader.note_type_imports(body)
    imported = []
    for statement in _statements(body):
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            reader.note_import(statement)
            continue
        names = _names_defined(statement)
        own = _Reader(without)
        own.write(statement)
        if not names or names & definitions.keys():
            return None
        definitions |= dict.fromkeys(names, own.statement(statement))
        imported += own.imported
    if "*" in reader.imports or definitions.keys() & reader.imports.keys():
        return None
    return SourceFile(definitions, reader.imports, (*reader.imported, *imported))


def _as_a_whole(body: list[ast.stmt], without: tuple[str, ...]) -> SourceFile:
    reader = _Reader(without)
    reader.note_type_imports(body)
    reader.write(body)
    whole = reader.statement()
    names = {name for statement in body for name in _names_defined(statement)}
    return SourceFile(dict.fromkeys(names, whole), reader.imports, tuple(reader.imported), whole)


def _names_defined(statement: ast.stmt) -> set[str]:
    """The names that a definition binds; none if it is no definition."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        targets = [name for target in statement.targets for name in _targets(target)]
        return set() if None in targets else {name for name in targets if name}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


def _targets(target: ast.expr) -> Iterator[str | None]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for element in target.elts:
            yield from _targets(element)
    else:
        yield target.id if isinstance(target, ast.Name) else None


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Without docstrings and other bare constants, `pass`, `__all__`, and what only type checkers read."""
    for statement in body:
        if isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__" and not statement.level:
            continue
        if isinstance(statement, ast.Assign) and _names_defined(statement) == {"__all__"}:
            continue
        if _is_for_types(statement):
            yield from _statements(statement.orelse)
            continue
        yield statement


def _is_for_types(statement: ast.stmt) -> TypeGuard[ast.If]:
    return isinstance(statement, ast.If) and _chain(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _chain(node: ast.expr) -> str:
    """`a.b.c` as text; "" for anything that does not begin with a name."""
    dots = []
    while isinstance(node, ast.Attribute):
        dots.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(dots)]) if isinstance(node, ast.Name) else ""


class _Reader:
    """Writes syntax trees down in a form that is the same for every version of Python, and notes names and imports."""

    def __init__(self, without: tuple[str, ...]) -> None:
        self.without = without
        self.text: list[str] = []
        self.uses: set[str] = set()
        self.imports: dict[str, tuple[Import, ...]] = {}
        self.imported: list[Import] = []

    def statement(self, node: ast.AST | None = None) -> Statement:
        """What was written so far."""
        decorators = tuple(
            _chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
            for decorator in getattr(node, "decorator_list", ())
        )
        digest = hashlib.sha256("\n".join(self.text).encode()).hexdigest()
        return Statement(digest, tuple(sorted(self.uses)), self.imports, decorators)

    def note_import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Which names it binds; `import a.b` binds a, `import a.b as c` a.b."""
        for alias in node.names:
            if isinstance(node, ast.Import):
                bound = alias.asname or alias.name.partition(".")[0]
                self._bind(bound, Import(alias.name if alias.asname else bound))
                self.imported.append(Import(alias.name))
            else:
                found = Import(node.module or "", alias.name, node.level)
                self._bind(alias.asname or alias.name, found)
                self.imported.append(found)

    def note_type_imports(self, body: list[ast.stmt]) -> None:
        """What annotations name: an argument's class tells whose methods run."""
        for statement in body:
            if _is_for_types(statement):
                for found in statement.body:
                    if isinstance(found, (ast.Import, ast.ImportFrom)):
                        self.note_import(found)

    def _bind(self, name: str, found: Import) -> None:
        self.imports[name] = tuple(dict.fromkeys((*self.imports.get(name, ()), found)))

    def write(self, value: object) -> None:
        """A syntax tree, a list of them, or what stands in their fields."""
        if isinstance(value, (ast.Import, ast.ImportFrom)):
            self.note_import(value)
        elif isinstance(value, (ast.Name, ast.Attribute)) and (chain := _chain(value)):
            if isinstance(value.ctx, ast.Load):
                self.uses.add(chain)
            self.text.append(f"name {chain}")
        elif isinstance(value, ast.JoinedStr):
            self._write_fields("JoinedStr", {"values": _joined(value.values)})
        elif isinstance(value, ast.Constant):
            self.text.append(_constant(value.value))
        elif isinstance(value, ast.AST):
            self._note_import_module(value)
            self._write_fields(type(value).__name__, dict(self._fields(value)))
        elif isinstance(value, list):
            items = list(_statements(value)) if value and isinstance(value[0], ast.stmt) else value
            self.text.append("[")
            for item in items:
                self.write(item)
            self.text.append("]")
        else:  # a name, a number of dots, or nothing in the place of a key
            self.text.append(ascii(value))

    def _write_fields(self, name: str, fields: dict[str, object]) -> None:
        self.text.append(f"({name}")
        for key, value in sorted(fields.items()):
            if value is not None and value != []:  # versions differ in what they leave out
                self.text.append(key)
                self.write(value)
        self.text.append(")")

    def _fields(self, node: ast.AST) -> Iterator[tuple[str, object]]:
        for key, value in ast.iter_fields(node):
            if key in UNREAD:
                continue
            if isinstance(value, ast.expr) and (key == "returns" or isinstance(node, ast.arg)):
                self._note_names(value)  # of an annotation
                continue
            if key == "body" and isinstance(node, ast.ClassDef):
                value = [item for item in value if getattr(item, "name", None) not in self.without]
            if key == "exc" and isinstance(node, ast.Raise) and isinstance(value, ast.Call):
                value = _wordless(value)
            yield key, value

    def _note_names(self, annotation: ast.expr) -> None:
        chain = _chain(annotation)
        if chain:
            self.uses.add(chain)
            return
        for child in ast.iter_child_nodes(annotation):
            if isinstance(child, ast.expr):
                self._note_names(child)

    def _note_import_module(self, node: ast.AST) -> None:
        """`import_module("a.b")` imports a.b; a computed name is beyond us."""
        if isinstance(node, ast.Call) and _chain(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                bound = f"import_module({named.value})".replace(".", "/")  # no name that anything else could have
                self._bind(bound, Import(named.value))
                self.imported.append(Import(named.value))
                self.uses.add(bound)


def _wordless(call: ast.Call) -> ast.Call:
    """`SomeError("what is wrong")` without its words: a better message changes no number."""
    kept = [arg for arg in call.args if not isinstance(arg, ast.JoinedStr) and _text(arg) is None]
    return ast.Call(func=call.func, args=kept, keywords=call.keywords)


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string; neighbouring text is one part in some versions of Python and two in others."""
    parts: list[ast.expr] = []
    for value in values:
        text = _text(value)
        before = _text(parts[-1]) if parts else None
        if text is not None and before is not None:
            parts[-1] = ast.Constant(value=before + text)
        elif text != "":
            parts.append(value)
    return parts


def _constant(value: object) -> str:
    """Type and value; escapes as in ASCII, since what counts as printable changes between versions."""
    if type(value) is int:
        return f"int {value:x}"  # not decimal: Python refuses to print very large numbers so
    return f"{type(value).__name__} {value!a}"
