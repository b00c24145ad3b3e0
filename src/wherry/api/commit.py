"""POST /commit"""

from aiohttp import web

from wherry.api import response
from wherry.api.decode import fit
from wherry.api.request import Request
from wherry.engine.engine import Engine
from wherry.model.config import ContainerConfig


async def commit(request: Request, engine: Engine) -> web.Response:
    body = await request.json_object()
    image_id = await engine.images.commit(
        request.text("container"),
        repo=request.text("repo"),
        tag=request.text("tag"),
        comment=request.text("comment"),
        author=request.text("author"),
        pause=request.flag("pause", default=True),
        changes=request.texts("changes"),
        config=fit(body, ContainerConfig) if body else None,
    )
    return response.json({"Id": image_id}, 201)
