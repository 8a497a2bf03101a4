"""A local stand-in for the hub: an HTTP server in this process, with repositories, branches, tokens and large files.

It implements the part of the hub's API that huggingface_hub, the client in the tests, uses to push and download.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

WRITER, READER = "hf_writer", "hf_reader"
API = r"/api/models/([\w.-]+/[\w.-]+)"


class Hub:
    """The hub. `repos` is {name: {"private", "branches": {name: [commit, ...]}}}; a commit is (sha, {path: bytes})."""

    def __init__(self):
        self.repos, self.large, self.asked = {}, {}, []
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def put(self, repo, files, *, private=False, branch="main"):
        """Commits files on top of a branch (None deletes a file); returns the sha."""
        found = self.repos.setdefault(repo, {"private": private, "branches": {}})
        commits = found["branches"].setdefault(branch, [])
        content = {**(commits[-1][1] if commits else {}), **files}
        content = {path: data for path, data in content.items() if data is not None}
        sha = hashlib.sha1(repr((len(commits), branch, sorted(content.items()))).encode()).hexdigest()
        commits.append((sha, content))
        return sha

    def at(self, repo, revision):
        """(sha, files) of a branch or commit, or None."""
        branches = self.repos[repo]["branches"]
        if revision in branches:
            return branches[revision][-1]
        return next((c for commits in branches.values() for c in commits if c[0] == revision), None)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, data=b"", **headers):
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code):
        self.answer(status, {"error": code}, X_Error_Code=code)

    def handle_all(self):
        split = urlsplit(self.path)
        path = unquote(split.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        self.hub.asked.append(f"{self.command} {path}")
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        for method, pattern, does in ROUTES:
            if method in (self.command, "ANY") and (match := re.fullmatch(pattern, path)):
                return does(self, body, *match.groups())
        return self.answer(404, {"error": path})

    do_GET = do_HEAD = do_POST = do_PUT = handle_all

    def chunks(self):
        """Reads a body with chunked transfer encoding."""
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def readable(self, repo):
        """The repository, or None after an error answer."""
        found = self.hub.repos.get(repo)
        if found is None or (found["private"] and self.token not in (WRITER, READER)):
            self.refuse(401 if not self.token else 404, "RepoNotFound")
            return None
        return found

    def create(self, body):
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        if self.token != WRITER:
            return self.answer(403 if self.token else 401, {"error": "no right to write here"})
        if repo in self.hub.repos:
            return self.answer(409, {"error": "there", "url": f"{self.hub.address}/{repo}"})
        self.hub.put(
            repo, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=asked.get("visibility") == "private"
        )
        return self.answer(200, {"url": f"{self.hub.address}/{repo}"})

    def info(self, _, repo, revision="main"):
        found = self.readable(repo)
        if found is None:
            return None
        commit = self.hub.at(repo, revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = [{"rfilename": path} for path in commit[1]]
        return self.answer(200, {"id": repo, "sha": commit[0], "private": found["private"], "siblings": files})

    def tree(self, _, repo, revision):
        if self.readable(repo) is None:
            return None
        files = self.hub.at(repo, revision)[1]
        rows = [
            {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()} for p, d in files.items()
        ]
        return self.answer(200, rows)

    def refs(self, _, repo):
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c[-1][0]}
                    for n, c in self.hub.repos[repo]["branches"].items()]  # fmt: skip
        return self.answer(200, {"branches": branches, "converts": [], "tags": []})

    def branch(self, _, repo, name):
        branches = self.hub.repos[repo]["branches"]
        if name in branches:
            return self.answer(409, {"error": "there"})
        branches[name] = [branches["main"][-1]]
        return self.answer(200, {})

    def preupload(self, body, repo, revision):
        files = [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                  "shouldIgnore": False} for f in json.loads(body)["files"]]  # fmt: skip
        return self.answer(200, {"files": files})

    def batch(self, body, repo):
        place = {"href": f"{self.hub.address}/store/{{}}", "header": {}}
        rows = [{**o, "actions": {"upload": {**place, "href": place["href"].format(o["oid"])}}}
                for o in json.loads(body)["objects"]]  # fmt: skip
        return self.answer(200, {"transfer": "basic", "objects": rows})

    def store(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        return self.answer(200)

    def commit(self, body, repo, revision):
        if self.token != WRITER:
            return self.answer(403, {"error": "no right to write here"})
        changes = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                changes[value["path"]] = None
        sha = self.hub.put(repo, changes, branch=revision)
        url = f"{self.hub.address}/{repo}/commit/{sha}"
        return self.answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def resolve(self, _, repo, revision, path):
        if self.readable(repo) is None:
            return None
        commit = self.hub.at(repo, revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        sha, files = commit
        if path not in files:
            return self.answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        data = files[path]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        return self.answer(200, data, ETag=etag, X_Repo_Commit=sha, Content_Length=str(len(data)))

    def valid_card(self, body):
        head = json.loads(body)["content"].split("---\n")
        assert len(head) > 2, "a card begins with YAML"
        return self.answer(200, {"errors": [], "warnings": []})


ROUTES = [
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.valid_card),
    ("GET", API, Handler.info),
    ("GET", f"{API}/revision/(.+)", Handler.info),
    ("GET", f"{API}/tree/(.+)", Handler.tree),
    ("GET", f"{API}/refs", Handler.refs),
    ("POST", f"{API}/branch/(.+)", Handler.branch),
    ("POST", f"{API}/preupload/(.+)", Handler.preupload),
    ("POST", f"{API}/commit/(.+)", Handler.commit),
    ("POST", r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/store/(\w+)", Handler.store),
    ("ANY", r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", Handler.resolve),
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that this process uses, as if HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET were set."""
    from huggingface_hub import constants, hf_api

    found = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", found.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_URL_HOSTS", frozenset({"127.0.0.1"}))
    monkeypatch.setattr(hf_api.api, "endpoint", found.address)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield found
    found.close()
