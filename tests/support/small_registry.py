"""A registry in the test's own process: what is pushed into it, or put there by hand, can be pulled."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import web

from wherry.common.platforms import host_architecture

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class SmallRegistry:
    """``host`` is what names of images begin with. ``asked`` counts requests, as "GET /v2/app/manifests/1".

    ``refusal`` is the status and the error's code of every answer, if it is set. ``most`` is how many blobs were under
    way at once, each for ``seconds`` at least.
    """

    host = ""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.asked: Counter[str] = Counter()
        self.refusal: tuple[int, str] | None = None
        self.seconds = 0.0
        self.most = self._under_way = 0

    def put_blob(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def put_manifest(self, path: str, tag: str, document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        """Its descriptor."""
        raw = json.dumps(document).encode()
        digest = digest_of(raw)
        for name in (tag, digest):
            self.manifests[path, name] = media_type, raw
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    def put_image(self, path: str, tag: str, *tars: bytes, **config: Any) -> dict[str, Any]:
        """An image of these layers, the lowest first; the descriptor of its manifest."""
        described = {
            "architecture": host_architecture(),
            "os": "linux",
            **config,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
        layers = [self._describe(LAYER, gzip.compress(tar, mtime=0)) for tar in tars]
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "layers": layers,
            "config": self._describe(CONFIG, json.dumps(described).encode()),
        }
        return self.put_manifest(path, tag, document, MANIFEST)

    def put_index(self, path: str, tag: str, *entries: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        """Of manifests by their architectures."""
        manifests = [entry | {"platform": {"os": "linux", "architecture": name}} for name, entry in entries]
        return self.put_manifest(path, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX)

    def _describe(self, media_type: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.put_blob(data), "size": len(data)}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[f"{request.method} {request.path}"] += 1
        if self.refusal is not None:
            return _error(*self.refusal)
        path, _, rest = request.path.removeprefix("/v2/").rpartition("/manifests/")
        if path:
            return await self._manifest(request, path, rest)
        path, _, rest = request.path.removeprefix("/v2/").partition("/blobs/")
        if rest.startswith("uploads/"):
            async with self._transfer() if request.method == "PATCH" else contextlib.nullcontext():
                return await self._upload(request, path, rest.removeprefix("uploads/"))
        if rest:
            async with self._transfer():
                data = self.blobs.get(rest)
                return _error(404, "BLOB_UNKNOWN") if data is None else web.Response(body=data)
        if path.endswith("/tags/list"):
            name = path.removesuffix("/tags/list")
            tags = [tag for found, tag in self.manifests if found == name and ":" not in tag]
            return web.json_response({"name": name, "tags": tags}) if tags else _error(404, "NAME_UNKNOWN")
        return web.json_response({})

    @contextlib.asynccontextmanager
    async def _transfer(self) -> AsyncIterator[None]:
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await asyncio.sleep(self.seconds)
        yield
        self._under_way -= 1

    async def _manifest(self, request: web.Request, path: str, name: str) -> web.Response:
        if request.method == "PUT":
            raw = await request.read()
            for each in (name, digest_of(raw)):
                self.manifests[path, each] = request.content_type, raw
            return web.Response(status=201, headers={"Docker-Content-Digest": digest_of(raw)})
        if (path, name) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        media_type, raw = self.manifests[path, name]
        return web.Response(body=raw, content_type=media_type, headers={"Docker-Content-Digest": digest_of(raw)})

    async def _upload(self, request: web.Request, path: str, name: str) -> web.Response:
        where = {"Location": f"/v2/{path}/blobs/uploads/{name or secrets.token_hex(8)}"}
        if request.method == "POST":
            mounted = request.query.get("mount", "") in self.blobs
            return web.Response(status=201) if mounted else web.Response(status=202, headers=where)
        self.blobs[name] = self.blobs.get(name, b"") + await request.read()
        if request.method == "PATCH":
            return web.Response(status=202, headers=where)
        data = self.blobs.pop(name)
        if digest_of(data) != request.query["digest"]:
            return _error(400, "DIGEST_INVALID")
        self.put_blob(data)
        return web.Response(status=201, headers={"Docker-Content-Digest": digest_of(data)})


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}, status=status)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[SmallRegistry]:
    registry = SmallRegistry()
    application = web.Application(client_max_size=1 << 26)
    application.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield registry
    finally:
        await runner.cleanup()
