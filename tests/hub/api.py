"""The parts of the Hub's API that huggingface_hub uses for models: reading, LFS, commits, branches and tags."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote

import yaml
from hub.frame import Frame, Refusal
from hub.repositories import Stored, is_large


class Api(Frame):
    """The actions, in the order of ROUTES below."""

    # ---------------------------------------------------------------------------------------------------- download
    def resolve(self, name: str, revision: str, path: str) -> None:
        repository = self.repository(name)
        account = self.account
        if repository.gated and not (
            account and (account.name in repository.granted or account.may_write(repository.owner))
        ):
            raise Refusal(
                403 if account else 401, "GatedRepo", f"Access to model {name} is restricted. Please ask for access."
            )
        commit = self.commit(repository, revision)
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        stored = commit.files.get(path)
        if stored is None:
            return self.json(
                {"error": "Entry not found"},
                404,
                {**headers, "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"},
            )
        etag = repository.announced.get(path, stored.etag)
        if not stored.large:
            return self._send_range(stored.data, {**headers, "ETag": f'"{etag}"'})
        self.hub.store.large[stored.sha256] = stored.data
        disposition = quote('inline; filename="{}";'.format(path.split("/")[-1]))
        location = f"{self.hub.cdn}/cdn/{stored.sha256}?response-content-disposition={disposition}&signature=s"
        linked = {"X-Linked-Size": str(len(stored.data)), "X-Linked-ETag": f'"{etag}"', "Location": location}
        self.send(f"Found. Redirecting to {location}".encode(), 302, {**headers, **linked})

    def cdn_file(self, oid: str) -> None:
        data = self.hub.store.large.get(oid)
        if data is None:
            raise Refusal(404, None, "no such object")
        about = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        disposition = self.query.get("response-content-disposition", ["inline"])[0]
        self._send_range(data, {**about, "Content-Disposition": disposition})

    def _send_range(self, data: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted or (self.fault and self.fault.kind == "ignore-range"):
            return self.send(data, 200, headers)
        start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if start >= len(data):
            return self.send(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
        self.send(data[start : end + 1], 206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"})

    # ------------------------------------------------------------------------------------------------------- reading
    def whoami(self) -> None:
        if (account := self.account) is None:
            raise Refusal(401, None, "Invalid username or password.")
        organisations = [{"name": name, "type": "org", "roleInOrg": account.role} for name in account.organisations]
        auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": account.role}}
        self.json({"type": "user", "id": account.name, "name": account.name, "orgs": organisations, "auth": auth})

    def info(self, name: str, revision: str) -> None:
        repository = self.repository(name)
        commit = self.commit(repository, revision)
        siblings = [
            {"rfilename": path, "size": len(stored.data), "blobId": stored.blob_id, **_lfs(stored, "sha256")}
            for path, stored in sorted(commit.files.items())
        ]
        self.json(
            {"_id": name, "id": name, "modelId": name, "author": repository.owner, "sha": commit.oid}
            | {"private": repository.private, "gated": "auto" if repository.gated else False, "disabled": False}
            | {"lastModified": commit.date, "createdAt": commit.date, "tags": [], "downloads": 0, "likes": 0}
            | {"siblings": siblings, **_library(commit.files.get("README.md"))}
        )

    def tree(self, name: str, revision: str, folder: str) -> None:
        commit = self.commit(self.repository(name), revision)
        prefix = f"{folder}/" if folder else ""
        files = [_entry(path, stored) for path, stored in sorted(commit.files.items()) if path.startswith(prefix)]
        if self.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            files = [entry for entry in files if "/" not in entry["path"][len(prefix) :]]
        self.json(files)

    def paths_info(self, name: str, revision: str) -> None:
        commit = self.commit(self.repository(name), revision)
        text = self.body.decode()
        paths = json.loads(text).get("paths", []) if text.startswith("{") else parse_qs(text).get("paths", [])
        self.json([_entry(path, commit.files[path]) for path in paths if path in commit.files])

    def references(self, name: str) -> None:
        repository = self.repository(name)
        branches = [
            {"name": k, "ref": f"refs/heads/{k}", "targetCommit": oid} for k, oid in repository.branches.items()
        ]
        tags = [{"name": k, "ref": f"refs/tags/{k}", "targetCommit": oid} for k, oid in repository.tags.items()]
        self.json({"branches": branches, "tags": tags, "converts": []})

    def commits(self, name: str, revision: str) -> None:
        repository = self.repository(name)
        self.commit(repository, revision)
        self.json(
            [
                {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
                for c in repository.history(revision)
            ]
        )

    # ------------------------------------------------------------------------------------------------------- writing
    def create(self) -> None:
        wanted, account = self.data(), self.account
        if account is None:
            raise Refusal(401, None, "Invalid username or password.")
        owner = wanted.get("organization") or account.name
        name = f"{owner}/{wanted['name']}"
        if not account.may_write(owner):
            raise Refusal(403, None, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        url = {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name}
        if name in self.hub.store.repositories:
            raise Refusal(409, None, "You already created this model repo", **url)
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        gitattributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in (".safetensors",))
        self.hub.store.repository(name, {".gitattributes": gitattributes.encode()}, private=private)
        self.json(url)

    def delete(self) -> None:
        wanted = self.data()
        name = f"{wanted.get('organization') or (self.account.name if self.account else '')}/{wanted['name']}"
        self.writable(name)
        del self.hub.store.repositories[name]
        self.json({})

    def settings(self, name: str) -> None:
        repository, wanted = self.writable(name), self.data()
        repository.private = bool(wanted.get("private", repository.private)) or wanted.get("visibility") == "private"
        repository.gated = bool(wanted.get("gated", repository.gated))
        self.json({})

    def reference(self, name: str, kind: str, label: str) -> None:
        """Create or delete a branch or a tag. The address of a new tag names the revision, the body the tag."""
        repository, wanted = self.writable(name), self.data()
        table = repository.branches if kind == "branch" else repository.tags
        if self.command == "DELETE":
            if table.pop(label, None) is None:
                raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {label}")
            return self.json({})
        new = label if kind == "branch" else wanted["tag"]
        if new in table:
            raise Refusal(409, None, f"Reference already exists: {new}")
        table[new] = self.commit(repository, wanted.get("startingPoint", "main") if kind == "branch" else label).oid
        self.json({})

    def preupload(self, name: str, revision: str) -> None:
        repository = self.writable(name)
        files = self.commit(repository, revision).files
        answers = [
            {"path": f["path"], "uploadMode": "lfs" if is_large(f["path"], f["size"]) else "regular"}
            | {"shouldIgnore": False, "oid": files[f["path"]].etag if f["path"] in files else None}
            for f in self.data()["files"]
        ]
        self.json({"files": answers})

    def lfs_batch(self, name: str) -> None:
        self.writable(name)
        self.json({"transfer": "basic", "objects": [self._upload_action(name, o) for o in self.data()["objects"]]})

    def _upload_action(self, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """How to upload one large file; nothing to do if it is there already."""
        oid, size, limit = wanted["oid"], wanted["size"], self.hub.multipart_bytes
        if oid in self.hub.store.large:
            return {"oid": oid, "size": size}
        upload: dict[str, Any] = {"href": f"{self.hub.cdn}/upload/{oid}"}
        if size > limit:
            upload = {"href": f"{self.hub.endpoint}/complete/{oid}", "header": {"chunk_size": str(limit)}}
            upload["header"] |= {str(n + 1): f"{self.hub.cdn}/upload/{oid}/{n + 1}" for n in range(-(-size // limit))}
        return {
            "oid": oid,
            "size": size,
            "authenticated": True,
            "actions": {"upload": upload, "verify": {"href": f"{self.hub.endpoint}/{name}.git/info/lfs/verify"}},
        }

    def upload(self, oid: str, number: str) -> None:
        if number:
            self.hub.store.parts[oid, int(number)] = self.body
        elif hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, None, "the sha256 of what came is another")
        else:
            self.hub.store.large[oid] = self.body
        self.send(b"", 200, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})

    def complete(self, oid: str) -> None:
        numbers = [part["partNumber"] for part in self.data()["parts"]]
        data = b"".join(self.hub.store.parts.pop((oid, number)) for number in numbers)
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, None, "the sha256 of what came is another")
        self.hub.store.large[oid] = data
        self.json({})

    def lfs_verify(self, name: str) -> None:
        self.writable(name)
        wanted = self.data()
        if len(self.hub.store.large.get(wanted["oid"], b"")) != wanted["size"]:
            raise Refusal(404, None, "the object is not there")
        self.json({})

    def new_commit(self, name: str, revision: str) -> None:
        repository, account = self.writable(name), self.account
        header, files = {}, {}
        branch = revision.removeprefix("refs/heads/")
        with repository.lock:
            current = self.commit(repository, branch)
            for line in map(json.loads, self.body.splitlines()):
                key, value = line["key"], line["value"]
                if key == "header":
                    header = value
                elif key == "file":
                    files[value["path"]] = Stored(base64.b64decode(value["content"]), False)
                elif key == "lfsFile":
                    if value["oid"] not in self.hub.store.large:
                        raise Refusal(400, None, f"the LFS object of {value['path']} was not uploaded")
                    files[value["path"]] = Stored(self.hub.store.large[value["oid"]], True)
                elif key in ("deletedFile", "deletedFolder"):
                    prefix = value["path"].rstrip("/")
                    gone = [p for p in current.files if p == prefix or p.startswith(f"{prefix}/")]
                    if not gone:
                        raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
                    files |= dict.fromkeys(gone)
            if header.get("parentCommit", current.oid) != current.oid:
                raise Refusal(412, None, "A commit has happened since. Please refresh and try again.")
            assert account is not None
            oid = repository.commit(
                files,
                branch=branch,
                title=header.get("summary", ""),
                message=header.get("description", ""),
                author=account.name,
            )
        url = f"{self.hub.endpoint}/{name}/commit/{oid}"
        self.json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": "", "pullRequestUrl": None})

    def validate_yaml(self) -> None:
        """The metadata block of a card: here only that it is there and is a YAML mapping."""
        block = re.match(r"---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", self.data()["content"], re.DOTALL)
        if not block:
            return self.json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        try:
            wrong = None if isinstance(yaml.safe_load(block[1]), dict) else "the metadata are no mapping"
        except yaml.YAMLError as error:
            wrong = str(error)
        if wrong:
            return self.json({"errors": [{"message": wrong}], "warnings": []}, 400, {"X-Error-Message": "invalid yaml"})
        self.json({"errors": [], "warnings": []})


def _library(card: Stored | None) -> dict[str, str]:
    """The Hub takes a model's library from its card."""
    named = re.search(rb"^library_name: *([\w.-]+)$", card.data if card else b"", re.MULTILINE)
    return {"library_name": named[1].decode()} if named else {}


def _lfs(stored: Stored, key: str) -> dict[str, Any]:
    about = {key: stored.sha256, "size": len(stored.data), "pointerSize": len(stored.pointer)}
    return {"lfs": about} if stored.large else {}


def _entry(path: str, stored: Stored) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(stored.data), "oid": stored.blob_id, **_lfs(stored, "oid")}


REPO = r"([^/]+/[^/]+)"
MODEL = rf"/api/models/{REPO}"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET HEAD", rf"/{REPO}/resolve/([^/]+)/(.+)", Api.resolve),
    ("GET HEAD", r"/cdn/(\w+)", Api.cdn_file),
    ("PUT", r"/upload/(\w+)(?:/(\d+))?", Api.upload),
    ("POST", r"/complete/(\w+)", Api.complete),
    ("GET", r"/api/whoami-v2", Api.whoami),
    ("POST", r"/api/validate-yaml", Api.validate_yaml),
    ("POST", r"/api/repos/create", Api.create),
    ("DELETE", r"/api/repos/delete", Api.delete),
    ("GET", rf"{MODEL}(?:/revision/([^/]+))?", Api.info),
    ("GET", rf"{MODEL}/tree/([^/]+)(?:/(.+))?", Api.tree),
    ("POST", rf"{MODEL}/paths-info/([^/]+)", Api.paths_info),
    ("GET", rf"{MODEL}/refs", Api.references),
    ("GET", rf"{MODEL}/commits/([^/]+)", Api.commits),
    ("PUT", rf"{MODEL}/settings", Api.settings),
    ("POST DELETE", rf"{MODEL}/(branch|tag)/([^/]+)", Api.reference),
    ("POST", rf"{MODEL}/preupload/([^/]+)", Api.preupload),
    ("POST", rf"{MODEL}/commit/([^/]+)", Api.new_commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Api.lfs_batch),
    ("POST", rf"/{REPO}\.git/info/lfs/verify", Api.lfs_verify),
]

Api.routes = ROUTES
