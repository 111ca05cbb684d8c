"""A server on loopback that speaks the hub's protocol, and parquet files as its datasets have them."""

import base64
import hashlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from PIL import Image

TOKEN = "hf_" + "x" * 34
# Names of the newest commit; the hub keeps its own conversions to parquet on a branch of theirs.
BRANCHES = ("main", "refs/convert/parquet")
REPOSITORY = "someone/pets"
# As a task's file says that its images come from there.
SOURCE: dict[str, Any] = {
    "kind": "hub",
    "repository": REPOSITORY,
    "revision": "main",
    "image": "image",
    "label": "label",
    "image_size": None,
    "splits": {
        "train": {"files": "data/train-*.parquet", "first": None},
        "val": None,
        "test": {"files": "data/test-*.parquet", "first": None},
    },
    "class_names": None,
}


@dataclass
class Hub:
    """Repositories, each the files of its newest commit, and how the server behaves.

    older: what commits before it held, by commit.
    failures: HTTP status and hub error code of the next answers; "cut" closes the connection after this many bytes of a
        body, or in its middle.
    tampered: what is served instead of a file, with the headers of the true one.
    gated: repositories that want the token.
    slow: how many answers come a second late.
    uploaded: large files that were sent, by hash; a commit puts them into a repository.
    odd: answers requests for files, in place of what is right.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)
    failures: list[tuple[int | str, str]] = field(default_factory=list)
    tampered: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    slow: int = 0
    uploaded: dict[str, bytes] = field(default_factory=dict)
    odd: "Callable[[BaseHTTPRequestHandler], None] | None" = None
    requests: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commit(self, repository: str) -> str:
        """The newest commit, which its content names."""
        return commit_of(self.repositories[repository])

    def publish(self, repository: str, files: dict[str, bytes]) -> None:
        """A commit with these files; those before stay there."""
        if repository in self.repositories:
            self.older[self.commit(repository)] = self.repositories[repository]
        self.repositories[repository] = files

    def commit_at(self, repository: str, revision: str) -> str:
        """The commit that a branch stands for, or the commit itself."""
        return revision if revision in self.older else self.commit(repository)

    def at(self, repository: str, revision: str) -> dict[str, bytes] | None:
        """The files of a branch or a commit."""
        files = self.repositories.get(repository)
        if files is None or revision in (*BRANCHES, commit_of(files)):
            return files
        return self.older.get(revision)


def commit_of(files: dict[str, bytes]) -> str:
    digest = hashlib.sha1()
    for name in sorted(files):
        digest.update(name.encode() + hashlib.sha1(files[name]).digest())
    return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    """``/api/datasets/…/revision/…`` and ``/datasets/…/resolve/…``, the same of models, and uploads to these."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        with suppress(ConnectionError):  # the client did not wait
            self.answer(with_body=False)

    def do_GET(self) -> None:
        with suppress(ConnectionError):
            self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        if self.hub.slow:
            self.hub.slow -= 1
            threading.Event().wait(1)
        cut: int | None = None
        if self.hub.failures and (self.hub.failures[0][0] != "cut" or with_body):
            status, code = self.hub.failures.pop(0)
            if isinstance(status, int):
                self.refuse(status, code)
                return
            cut = int(code or -1)
        # A slash within a revision is quoted.
        parts = [unquote(part) for part in path.strip("/").removeprefix("datasets/").split("/")]
        if parts[:2] in (["api", "datasets"], ["api", "models"]):
            self.describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else BRANCHES[0])
        elif parts[2:3] == ["resolve"] and self.hub.odd is not None:
            self.hub.odd(self)
        elif parts[2:3] == ["resolve"]:
            self.serve("/".join(parts[:2]), parts[3], "/".join(parts[4:]), with_body, cut)
        else:
            self.refuse(404, "EntryNotFound")

    def do_POST(self) -> None:
        """Uploads: a repository is created, then files are announced, sent (the large ones), and committed."""
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "")
            return
        if path == "/api/validate-yaml":  # of a card, which this server takes as it is
            self.send({"errors": [], "warnings": []})
            return
        repository = "/".join(path.strip("/").removeprefix("api/models/").split("/")[:2]).removesuffix(".git")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if "organization" in asked else asked["name"]
            self.hub.repositories.setdefault(name, {})
            self.send({"url": f"{self.hub.endpoint}/{name}"})
        elif "/preupload/" in path:
            self.send(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if large(file["path"]) else "regular",
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        elif path.endswith("/info/lfs/objects/batch"):
            uploads = [
                {**asked, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{asked['oid']}"}}}
                for asked in json.loads(body)["objects"]
            ]
            self.send({"transfer": "basic", "objects": uploads})
        else:
            files = dict(self.hub.repositories[repository])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.uploaded[value["oid"]]
            self.hub.publish(repository, files)
            commit = self.hub.commit(repository)
            self.send({"commitUrl": f"{self.hub.endpoint}/{repository}/commit/{commit}", "commitOid": commit})

    def do_PUT(self) -> None:
        self.hub.uploaded[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send({})

    def send(self, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "the server says no")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def describe(self, repository: str, revision: str) -> None:
        files = self.hub.at(repository, revision)
        if files is None:
            self.refuse(404, "RepoNotFound" if repository not in self.hub.repositories else "RevisionNotFound")
            return
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
            | ({"lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 1}} if large(name) else {})
            for name, content in files.items()
        ]
        self.send({"id": repository, "sha": commit_of(files), "siblings": siblings})

    def serve(self, repository: str, revision: str, name: str, with_body: bool, cut: int | None) -> None:
        if repository in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "GatedRepo")
            return
        files = self.hub.at(repository, revision)
        if files is None or name not in files:
            self.refuse(404, "RevisionNotFound" if files is None else "EntryNotFound")
            return
        content = files[name]
        served = self.hub.tampered.get(name, content)
        wanted = self.headers.get("Range")
        if with_body:
            self.hub.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        etag = sha256(content) if large(name) else hashlib.sha1(content).hexdigest()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served) - 1}/{len(served)}")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Linked-ETag", f'"{etag}"')
        self.send_header("X-Linked-Size", str(len(served)))
        self.send_header("X-Repo-Commit", self.hub.commit_at(repository, revision))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(served) - start))
        self.end_headers()
        if with_body:
            body = served[start:]
            self.wfile.write(body if cut is None else body[: len(body) // 2 if cut < 0 else cut])
            self.close_connection = cut is not None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def large(name: str) -> bool:
    """Return whether the hub keeps the file in LFS."""
    return name.endswith((".parquet", ".safetensors"))


@contextmanager
def serving() -> Iterator[Hub]:
    """A running server."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file of uint8 pixels, ``[height, width]`` or ``[height, width, channels]``."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def parquet(
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    names: Sequence[str] | None,
    column: str = "label",
    image: str = "image",
) -> bytes:
    """A file as `datasets` writes it: image structs, labels, and the features in the schema's metadata."""
    rows = [{"bytes": content, "path": f"{index}.png"} for index, content in enumerate(images)]
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({image: struct, column: pa.int64()})
    if names is not None:
        features = {image: {"_type": "Image"}, column: {"names": list(names), "_type": "ClassLabel"}}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    table = pa.Table.from_arrays([pa.array(rows, struct), pa.array(labels, pa.int64())], schema=schema)
    stream = io.BytesIO()
    pq.write_table(table, stream, row_group_size=5)
    return stream.getvalue()


def card(names: Sequence[str], column: str = "label", configuration: str = "default") -> bytes:
    """A README as the hub's datasets have it."""
    lines = ["---", "dataset_info:", f"  config_name: {configuration}", "  features:", "  - name: image"]
    lines += ["    dtype: image", f"  - name: {column}", "    dtype:", "      class_label:", "        names:"]
    lines += [f"          '{label}': {json.dumps(name)}" for label, name in enumerate(names)]
    return "\n".join([*lines, "---", "# A dataset", ""]).encode()


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does in a process that has not imported huggingface_hub yet."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextmanager
def private_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process uses, with a cache of its own, no token, no proxy, and no waiting between retries."""
    with serving() as hub:
        use(hub.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        yield hub
