"""A loopback server of Google Cloud Storage's JSON API, for tests that need its preconditions to hold.

The emulators in wheels ignore `ifGenerationMatch`: a put "if absent" replaces what is there, so it cannot
judge the archive. This one keeps what the archive relies on as the API's reference describes it: `ifGenerationMatch`
(412), `md5Hash` of an upload checked (400), storage classes, pages of a listing, 401 without credentials, and an object
that is acknowledged only once it is on the disk, whole. Run as a program it is a process of its own, to be killed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

START_SECONDS = 60
PAGE = 1_000
_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")


# -- the server ------------------------------------------------------------------------------------------------------
class RefusedError(Exception):
    """An answer of the API that is an error: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Store:
    """Objects of buckets in a folder, a file each: the resource as a JSON line, then the bytes."""

    folder: Path
    uploads: dict[str, tuple[dict[str, Any], str | None, bytearray]] = field(default_factory=dict)

    def objects(self, bucket: str) -> dict[str, dict[str, Any]]:
        """Every resource of a bucket by name."""
        found = {}
        for path in self._bucket(bucket).iterdir():
            if not path.name.startswith("."):
                with path.open("rb") as file:
                    resource = json.loads(file.readline())
                found[resource["name"]] = resource
        return dict(sorted(found.items()))

    def get(self, bucket: str, name: str) -> tuple[dict[str, Any], bytes]:
        """A resource and its bytes."""
        path = self._path(bucket, name)
        if not path.is_file():
            raise RefusedError(404, f"No such object: {bucket}/{name}")
        header, data = path.read_bytes().split(b"\n", 1)
        return json.loads(header), data

    def put(self, bucket: str, asked: dict[str, Any], data: bytes, precondition: str | None) -> dict[str, Any]:
        """Put an object whole, where the precondition holds and the bytes are those that were meant."""
        name = asked["name"]
        path = self._path(bucket, name)
        generation = json.loads(path.open("rb").readline())["generation"] if path.is_file() else "0"
        if precondition is not None and precondition != generation:
            raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        if asked.get("md5Hash", md5) != md5:
            raise RefusedError(400, f"Provided MD5 hash {asked['md5Hash']} doesn't match calculated MD5 hash {md5}.")
        if (storage_class := asked.get("storageClass", "STANDARD")) not in _CLASSES:
            raise RefusedError(400, f"Invalid argument: storage class {storage_class}")
        resource = {
            "kind": "storage#object",
            "name": name,
            "bucket": bucket,
            "generation": str(time.time_ns() // 1_000),
            "metageneration": "1",
            "size": str(len(data)),
            "md5Hash": md5,
            "storageClass": storage_class,
            "contentType": asked.get("contentType", "application/octet-stream"),
            "timeCreated": "2026-01-31T00:00:00.000Z",
            "updated": "2026-01-31T00:00:00.000Z",
        }
        temporary = path.with_name(f".{path.name}")
        with temporary.open("wb") as file:
            file.write(json.dumps(resource).encode() + b"\n" + data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return resource

    def delete(self, bucket: str, name: str) -> None:
        """Remove an object."""
        self.get(bucket, name)
        self._path(bucket, name).unlink()

    def _bucket(self, bucket: str) -> Path:
        if not (self.folder / bucket).is_dir():
            raise RefusedError(404, "The specified bucket does not exist.")
        return self.folder / bucket

    def _path(self, bucket: str, name: str) -> Path:
        return self._bucket(bucket) / hashlib.sha256(name.encode()).hexdigest()


def application(folder: Path, *, private: bool = False) -> web.Application:
    """The API over a folder whose sub-folders are the buckets; `private` wants credentials of every request."""
    from aiohttp import web

    store = Store(folder)

    @web.middleware
    async def refusals(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            if private and not request.headers.get("Authorization", "").startswith("Bearer "):
                raise RefusedError(401, "Anonymous caller does not have storage access to the Google Cloud Storage bucket.")
            return await handler(request)  # type: ignore[no-any-return]
        except RefusedError as refused:
            body = {"error": {"code": refused.status, "message": str(refused), "errors": [{"reason": "x", "message": str(refused)}]}}
            return web.json_response(body, status=refused.status)

    async def bucket_resource(request: web.Request) -> web.Response:
        store.objects(request.match_info["bucket"])
        return web.json_response({"kind": "storage#bucket", "name": request.match_info["bucket"]})

    async def listing(request: web.Request) -> web.Response:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        entries: list[str] = []
        objects = store.objects(request.match_info["bucket"])
        for name in objects:
            if not name.startswith(prefix):
                continue
            rest = name.removeprefix(prefix)
            entry = prefix + rest.split(delimiter, 1)[0] + delimiter if delimiter and delimiter in rest else name
            if entry not in entries[-1:]:
                entries.append(entry)
        start = int(query.get("pageToken", "0"))
        page = entries[start : start + min(int(query.get("maxResults", PAGE)), PAGE)]
        for entry in page:
            if entry in objects:
                items.append(objects[entry])
            else:
                prefixes.append(entry)
        answer: dict[str, Any] = {"kind": "storage#objects", "items": items, "prefixes": prefixes}
        if start + len(page) < len(entries):
            answer["nextPageToken"] = str(start + len(page))
        return web.json_response(answer)

    async def one(request: web.Request) -> web.Response:
        resource, data = store.get(request.match_info["bucket"], request.match_info["name"])
        if request.query.get("alt") != "media":
            return web.json_response(resource)
        return web.Response(body=data, headers={"X-Goog-Hash": f"md5={resource['md5Hash']}", "ETag": resource["md5Hash"]})

    async def delete(request: web.Request) -> web.Response:
        store.delete(request.match_info["bucket"], request.match_info["name"])
        return web.Response(status=204)

    async def upload(request: web.Request) -> web.Response:
        bucket, kind = request.match_info["bucket"], request.query["uploadType"]
        precondition = request.query.get("ifGenerationMatch")
        body = await request.read()
        if kind == "multipart":
            asked, data = _parts(body, request.headers["Content-Type"])
            return web.json_response(store.put(bucket, asked, data, precondition))
        if kind == "media":
            return web.json_response(store.put(bucket, {"name": request.query["name"]}, body, precondition))
        asked = {"name": request.query.get("name"), **(json.loads(body) if body else {})}
        token = hashlib.sha256(os.urandom(16)).hexdigest()
        store.uploads[token] = (asked, precondition, bytearray())
        return web.Response(headers={"Location": f"{request.url.origin()}{request.path_qs}&upload_id={token}"})

    async def chunk(request: web.Request) -> web.Response:
        asked, precondition, received = store.uploads[request.query["upload_id"]]
        received += await request.read()
        total = request.headers["Content-Range"].rsplit("/", 1)[1]
        if total == "*" or len(received) < int(total):
            return web.Response(status=308, headers={"Range": f"bytes=0-{len(received) - 1}"})
        return web.json_response(store.put(request.match_info["bucket"], asked, bytes(received), precondition))

    made = web.Application(middlewares=[refusals], client_max_size=2**30)
    made.router.add_get("/storage/v1/b/{bucket}", bucket_resource)
    made.router.add_get("/storage/v1/b/{bucket}/o", listing)
    made.router.add_get("/storage/v1/b/{bucket}/o/{name:.+}", one)
    made.router.add_get("/download/storage/v1/b/{bucket}/o/{name:.+}", one)
    made.router.add_delete("/storage/v1/b/{bucket}/o/{name:.+}", delete)
    made.router.add_post("/upload/storage/v1/b/{bucket}/o", upload)
    made.router.add_put("/upload/storage/v1/b/{bucket}/o", chunk)
    return made


def _parts(body: bytes, content_type: str) -> tuple[dict[str, Any], bytes]:
    """The JSON and the bytes of a multipart/related upload."""
    boundary = b"--" + content_type.split("boundary=", 1)[1].strip('"').encode()
    _, first, second = body.split(boundary, 2)
    asked = json.loads(first.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1])
    separator = b"\r\n\r\n" if b"\r\n\r\n" in second[:200] else b"\n\n"
    data = second.split(separator, 1)[1]
    return asked, data[: data.rindex(b"\n" + boundary + b"--")].removesuffix(b"\r") if separator == b"\r\n\r\n" else data[
        : data.rindex(b"\n" + boundary + b"--")
    ]


# -- the fixture -----------------------------------------------------------------------------------------------------
@dataclass
class GCSServer:
    """A server that can be started, stopped, killed and started again on the same data and port."""

    folder: Path
    port: int
    bucket: str = "lake"
    scheme: str = "gs"
    private: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """OPTIONS_AGENT_ variables that point the desk at it; the archive's root is for the test to choose."""
        return {"OPTIONS_AGENT_GCS_ENDPOINT_URL": self.endpoint, "OPTIONS_AGENT_GCS_TOKEN": "anon"}

    @property
    def settings(self) -> dict[str, Any]:
        """The same as arguments of `load_settings`."""
        return {"gcs_endpoint_url": self.endpoint, "gcs_token": "anon"}

    @property
    def storage_options(self) -> dict[str, Any]:
        """The same as fsspec options."""
        return {"endpoint_url": self.endpoint, "token": "anon"}

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self.folder / self.bucket).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(Path(__file__)), str(self.folder), str(self.port), *(["--private"] if self.private else [])]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.endpoint}/storage/v1/b/{quote(self.bucket)}", timeout=2).read()
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.kill()
        raise RuntimeError("the GCS server did not start")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
        self.process = None

    stop = kill


@contextmanager
def running_gcs(*, private: bool = False) -> Iterator[GCSServer]:
    """A server in a folder of its own, gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = GCSServer(Path(tempfile.mkdtemp(prefix="gcs-")), port, private=private)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GCSServer]:
    """A running GCS server shared by the session: use a prefix of your own."""
    with running_gcs() as server:
        yield server


@pytest.fixture
def own_gcs_server() -> Iterator[GCSServer]:
    """A running GCS server for this test alone, which may kill it."""
    with running_gcs() as server:
        yield server


def main() -> None:
    """Serve a folder until killed."""
    from aiohttp import web

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--private", action="store_true")
    chosen = parser.parse_args()
    web.run_app(application(chosen.folder, private=chosen.private), host="127.0.0.1", port=chosen.port, print=None)


if __name__ == "__main__":
    main()
