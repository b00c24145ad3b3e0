"""Names of containers: what may be one, and one at random for those who give none."""

import random
import re

from wherry.model.errors import InvalidParameter

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_HOW = [
    "able", "airy", "amber", "ample", "apt", "avid", "balmy", "bold", "brave", "breezy", "bright", "brisk",
    "buoyant", "calm", "candid", "cheery", "chirpy", "civil", "clear", "clever", "cosy", "crisp", "curious",
    "dapper", "daring", "deft", "dewy", "eager", "early", "earnest", "easy", "even", "fabled", "fair", "fleet",
    "fluent", "fond", "frank", "fresh", "frosty", "gallant", "gentle", "glad", "gleaming", "golden", "graceful",
    "grand", "hale", "handy", "happy", "hardy", "hearty", "honest", "humble", "jaunty", "jolly", "jovial",
    "keen", "kind", "lively", "loyal", "lucid", "lucky", "lunar", "mellow", "merry", "mighty", "mild",
    "mindful", "misty", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud",
    "quick", "quiet", "ready", "robust", "rosy", "rustic", "salty", "serene", "sharp", "shiny", "silent",
    "silver", "simple", "sleek", "smooth", "snug", "sober", "solid", "spry", "stable", "starry", "staunch",
    "steady", "still", "stoic", "sturdy", "subtle", "sunny", "sure", "swift", "tender", "thrifty", "tidal",
    "tidy", "tranquil", "trim", "true", "trusty", "upbeat", "valiant", "vivid", "warm", "wary", "whole",
    "windy", "wise", "witty", "zesty",
]  # fmt: skip
_WHAT = [
    "anchor", "atoll", "bay", "beacon", "bell", "boom", "bosun", "bow", "bowline", "breaker", "breeze", "brig",
    "buoy", "cabin", "canal", "cape", "capstan", "cargo", "catboat", "channel", "clipper", "coast", "cockle",
    "compass", "coracle", "cove", "current", "cutter", "deck", "delta", "dhow", "dinghy", "dock", "dolphin",
    "dory", "drifter", "ebb", "eddy", "egret", "estuary", "felucca", "ferry", "fjord", "flotilla", "foghorn",
    "frigate", "galley", "gannet", "gondola", "gull", "gunwale", "halyard", "harbour", "haven", "hawser",
    "heron", "hull", "inlet", "isle", "jetty", "jib", "junk", "kayak", "keel", "kelp", "ketch", "knot",
    "lagoon", "lantern", "launch", "lighter", "lock", "longboat", "lugger", "mainsail", "mallard", "marina",
    "mast", "mooring", "narrows", "oar", "osprey", "otter", "outrigger", "packet", "paddle", "pelican",
    "petrel", "pier", "pilot", "pinnace", "plover", "porpoise", "port", "prow", "puffin", "punt", "quay",
    "raft", "reef", "rigging", "rudder", "sail", "sampan", "schooner", "scow", "sculler", "seal", "sextant",
    "shoal", "shore", "skiff", "skipper", "sloop", "sound", "spar", "spinnaker", "spray", "stern", "strait",
    "surf", "swell", "tern", "tide", "tiller", "trawler", "tug", "wake", "wave", "wharf", "whelk", "wherry",
    "windlass", "yawl",
]  # fmt: skip


def parse_link(text: str) -> tuple[str, str]:
    """("db", "database") for "db:database", "/db:/web/database" or, with the name for alias, "db"."""
    name, _, alias = text.partition(":")
    name = name.removeprefix("/")
    return name, alias.rpartition("/")[2] or name


def check(name: str) -> str:
    """The name without its slash. Raises InvalidParameter in Docker's words."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def suggest(attempt: int) -> str:
    """Two words with an underscore; from the second attempt on a digit more, so that names do not run out."""
    name = f"{random.choice(_HOW)}_{random.choice(_WHAT)}"
    return name if attempt == 0 else f"{name}{random.randrange(10 ** min(attempt, 9))}"
