"""What the tests' Hub stores: accounts, repositories, commits, branches and tags, and large files by their sha256."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone

LARGE_SUFFIXES = (".safetensors", ".bin", ".npz", ".pt")  # what .gitattributes of a new model repository sends to LFS
LARGE_BYTES = 10_000_000


@dataclass(frozen=True)
class Stored:
    """A file of a commit: its bytes, and whether Git itself or LFS keeps them."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def blob_id(self) -> str:
        """Git's object id: of the LFS pointer for a large file."""
        content = self.pointer if self.large else self.data
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.blob_id


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    files: dict[str, Stored]
    date: str


@dataclass
class Repository:
    """A model repository. `announced` lies about a file's sha256, for tests of what happens then."""

    name: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)  # accounts that may read a gated repository
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    announced: dict[str, str] = field(default_factory=dict)  # file → sha256 in place of the true one
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    def commit(
        self,
        files: dict[str, bytes | Stored | None],
        *,
        branch: str = "main",
        title: str = "a commit",
        message: str = "",
        author: str = "somebody",
    ) -> str:
        """Add, replace or (None) delete files; returns the new commit's id."""
        parent = self.branches.get(branch)
        tree = dict(self.commits[parent].files) if parent else {}
        for path, content in files.items():
            if content is None:
                tree.pop(path, None)
            elif isinstance(content, Stored):
                tree[path] = content
            else:
                tree[path] = Stored(content, is_large(path, len(content)))
        listing = "".join(f"{path} {stored.blob_id}\n" for path, stored in sorted(tree.items()))
        oid = hashlib.sha1(f"{self.name} {branch} {parent} {len(self.commits)} {title}\n{listing}".encode()).hexdigest()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.commits[oid] = Commit(oid, parent, title, message, author, tree, now)
        self.branches[branch] = oid
        return oid

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, `refs/…`, or a commit id."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or revision
        return self.commits.get(oid)

    def history(self, revision: str) -> list[Commit]:
        commit, found = self.find(revision), []
        while commit:
            found.append(commit)
            commit = self.commits.get(commit.parent or "")
        return found


@dataclass
class Account:
    name: str
    organisations: tuple[str, ...] = ()
    role: str = "write"  # or "read"

    def may_write(self, owner: str) -> bool:
        return self.role == "write" and owner in (self.name, *self.organisations)


@dataclass
class Store:
    """Everything behind the server; tests fill it directly or through the API."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)  # by token
    large: dict[str, bytes] = field(default_factory=dict)  # uploaded by LFS, by sha256
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)  # of a multipart upload: (sha256, number)

    def repository(self, name: str, files: dict[str, bytes] | None = None, **settings: object) -> Repository:
        """A new repository, with a first commit of `files`."""
        repository = Repository(name, **settings)  # type: ignore[arg-type]
        repository.commit(dict(files or {}), title="initial commit", author=repository.owner)
        self.repositories[name] = repository
        return repository


def is_large(path: str, size: int) -> bool:
    return size > 0 and (path.endswith(LARGE_SUFFIXES) or size > LARGE_BYTES)
