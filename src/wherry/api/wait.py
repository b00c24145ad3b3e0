"""POST /containers/{name}/wait"""

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.engine.engine import Engine


async def wait(request: Request, engine: Engine) -> web.StreamResponse:
    """The head goes out once the engine listens: a client that has it may start the container and lose nothing."""
    condition = request.text("condition") or "not-running"
    if request.version < (1, 30):
        code, _ = await engine.containers.waiter(request.name, "not-running")
        return response.json({"StatusCode": code})
    waiter = engine.containers.waiter(request.name, condition)
    answer = await response.begin(request, response.JSON)
    code, failure = await waiter
    body = {"StatusCode": code} | ({"Error": {"Message": failure}} if failure else {})
    await answer.write(msgspec.json.encode(body) + b"\n")
    return answer
