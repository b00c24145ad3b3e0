"""wherry: a container engine in Python.

import wherry

with wherry.connect() as engine:
    print(engine.run("busybox", ["echo", "hi"]).output)
"""

__version__ = "0.2.0"
__all__ = [
    "TLS",
    "APIError",
    "BuildFailed",
    "ClientError",
    "CommandFailed",
    "ConnectionFailed",
    "Container",
    "Engine",
    "Image",
    "Mount",
    "Result",
    "connect",
]

_PLACES = {
    "TLS": "endpoint",
    "APIError": "transport",
    "BuildFailed": "library",
    "ClientError": "transport",
    "CommandFailed": "containers",
    "ConnectionFailed": "transport",
    "Container": "containers",
    "Engine": "library",
    "Image": "library",
    "Mount": "options",
    "Result": "containers",
    "connect": "library",
}


def __getattr__(name: str) -> object:
    """What __all__ names is loaded when it is first used: the command line and the daemon begin here, too."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"wherry.client.{_PLACES[name]}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Also what has not been loaded yet: a REPL completes it."""
    return sorted({*globals(), *__all__})
