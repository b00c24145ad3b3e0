"""The headers of every answer, and those of ``_ping``."""

import wherry
from wherry.api.versions import CURRENT
from wherry.engine.config import EngineConfig

HEADERS = {
    "Api-Version": str(CURRENT),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Wherry/{wherry.__version__} (linux)",
}


def of_ping(config: EngineConfig) -> dict[str, str]:
    """What a client learns of the engine before it asks for anything."""
    return HEADERS | {
        # BuildKit's protocol, or that of the classic builder, which is spoken as well
        "Builder-Version": "2" if config.features.get("buildkit", True) else "1",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Docker-Experimental": str(config.experimental).lower(),
        "Pragma": "no-cache",
        "Swarm": "inactive",
        "Content-Type": "text/plain; charset=utf-8",
    }
