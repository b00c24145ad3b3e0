"""The version that clients are told: one that they can reckon with."""

import re
import tomllib
from pathlib import Path

import wherry
from wherry.engine.system import SERVER_VERSION

PROJECT = Path(__file__).parents[3]


def test_clients_find_one_version_in_it_of_a_docker() -> None:
    """cAdvisor refuses a text with two; what is not of the form of semantic versions is refused by the kubelet."""
    assert re.findall(r"\d+\.\d+\.\d+", SERVER_VERSION) == ["29.3.0"]
    assert re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)\+[0-9A-Za-z.-]+", SERVER_VERSION)


def test_wherrys_own_version_stands_in_one_place() -> None:
    assert "version" in tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dynamic"]
    places = [
        path
        for folder in ("src", "scripts", "tests")
        for path in (PROJECT / folder).rglob("*.py")
        if f'"{wherry.__version__}"' in path.read_text()
    ]
    assert places == [PROJECT / "src" / "wherry" / "__init__.py"]
