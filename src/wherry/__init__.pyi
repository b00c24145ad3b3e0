# What __init__.py loads late, for type checkers: imports there would lean the engine on the client.
from wherry.client.containers import CommandFailed as CommandFailed
from wherry.client.containers import Container as Container
from wherry.client.containers import Result as Result
from wherry.client.endpoint import TLS as TLS
from wherry.client.library import BuildFailed as BuildFailed
from wherry.client.library import Engine as Engine
from wherry.client.library import Image as Image
from wherry.client.library import connect as connect
from wherry.client.options import Mount as Mount
from wherry.client.transport import APIError as APIError
from wherry.client.transport import ClientError as ClientError
from wherry.client.transport import ConnectionFailed as ConnectionFailed

__version__: str
