# What __init__.py loads late, for type checkers: imports there would lean the engine on the client.

__version__: str
