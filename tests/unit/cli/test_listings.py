"""ps, images, inspect, history, events, info, version: byte for byte what Docker prints of the same answers."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering_engine import AnsweringEngine
from wherry.cli import inspect, main, table
from wherry.cli.containers import CONTAINERS, displayed_ports
from wherry.cli.images import rows_of
from wherry.cli.table import Row

# Recorded with Docker's client 28.2.2: the API's answers, and for each command line what was printed, and when.
RECORDED = json.loads((Path(__file__).parent / "docker_commands.json").read_text())

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("line", "output", "error", "code"), RECORDED["commands"], ids=[command[0] for command in RECORDED["commands"]]
)
def test_a_command_prints_what_docker_prints(
    answering_engine: AnsweringEngine,
    cli: Cli,
    zone: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    output: str,
    error: str,
    code: int,
) -> None:
    zone("UTC")
    monkeypatch.setattr(table.time, "time", lambda: RECORDED["now"])
    answering_engine.answers = RECORDED["answers"]
    assert cli(*shlex.split(line)) == (code, output, error)


def test_filters_and_limits_go_to_the_engine(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/containers/json"] = "[]"
    assert cli("ps", "-n", "2", "-f", "name=a", "-f", "label=x=y", "-f", "NAME = b")[0] == 0
    query = answering_engine.last.query
    assert query["limit"] == ["2"]
    assert "all" not in query
    assert json.loads(query["filters"][0]) == {"name": ["a", "b"], "label": ["x=y"]}


def test_latest_is_a_limit_of_one(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/containers/json"] = "[]"
    cli("ps", "-l")
    assert answering_engine.last.query["limit"] == ["1"]


def test_size_is_asked_for_when_a_template_shows_it(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/containers/json"] = "[]"
    cli("ps", "--format", "{{.Size}}")
    assert answering_engine.last.query["size"] == ["1"]
    cli("ps", "--format", "{{.ID}}")
    assert "size" not in answering_engine.last.query


def test_an_image_that_is_not_there_may_have_been_another_command(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/images/json"] = "[]"
    hint = '\nNo images found matching "ls": did you mean "wherry image ls"?\n'
    assert cli("images", "ls") == (0, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n", hint)
    assert cli("image", "ls", "ls")[2] == ""
    assert json.loads(answering_engine.last.query["filters"][0]) == {"reference": ["ls"]}


def port(private: int, public: int = 0, address: str = "", protocol: str = "tcp") -> dict[str, Any]:
    return {"IP": address, "PrivatePort": private, "PublicPort": public, "Type": protocol}


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([port(80)], "80/tcp"),
        ([port(80, 8080, "0.0.0.0"), port(80, 8080, "::")], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([port(p, p, "127.0.0.1", "udp") for p in (9001, 9000, 9002)], "127.0.0.1:9000-9002->9000-9002/udp"),
        ([port(1), port(2), port(4), port(5)], "1-2/tcp, 4-5/tcp"),
        ([port(53, 53, "0.0.0.0"), port(53, 53, "0.0.0.0", "udp")], "0.0.0.0:53->53/tcp, 0.0.0.0:53->53/udp"),
        ([port(80, 8080, "0.0.0.0"), port(443)], "443/tcp, 0.0.0.0:8080->80/tcp"),
    ],
)
def test_ports(ports: list[dict[str, Any]], text: str) -> None:
    assert displayed_ports(ports) == text


def names_of(image: dict[str, Any], digests: bool = False) -> list[tuple[str, str, str]]:
    return [
        (row.field("Repository"), row.field("Tag"), row.field("Digest"))
        for row in rows_of(image, True, digests, digests)
    ]


def test_an_image_has_a_row_for_each_of_its_names() -> None:
    digest = "sha256:" + "1" * 64
    image = {
        "RepoTags": ["docker.io/library/a:1", "a:2", "localhost:5000/b:3"],
        "RepoDigests": [f"a@{digest}", f"c@{digest}"],
    }
    assert names_of(image) == [
        ("a", "1", "<none>"),
        ("a", "2", "<none>"),
        ("localhost:5000/b", "3", "<none>"),
        ("c", "<none>", ""),
    ]
    assert names_of(image, digests=True) == [
        ("a", "1", digest),
        ("a", "2", digest),
        ("localhost:5000/b", "3", "<none>"),
        ("c", "<none>", digest),
    ]
    assert names_of({"RepoTags": [], "RepoDigests": None}) == [("<none>", "<none>", "<none>")]
    assert names_of({"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]})[0][:2] == ("<none>", "<none>")


def row(**container: Any) -> Row:
    return Row(CONTAINERS, container)


def test_a_container_shows_its_image_without_the_digest() -> None:
    digest = "sha256:" + "1" * 64
    assert row(Image=f"docker.io/library/a:1@{digest}", ImageID="sha256:2").field("Image") == "a:1"
    assert row(Image="sha256:8849ba2e7c0d13", ImageID="sha256:8849ba2e7c0d13").field("Image") == "8849ba2e7c0d"
    assert row(Image="").field("Image") == "<no image>"


def test_a_container_shows_its_own_name_and_not_its_links() -> None:
    assert row(Names=["/other/db", "/db"]).field("Names") == "db"
    assert Row(CONTAINERS, {"Names": ["/other/db", "/db"]}, truncates=False).field("Names") == "other/db,db"


def test_json_is_indented_as_the_engine_wrote_it() -> None:
    text = '[{"b": 1.0,"a":"x\\"{},:\\u003c","c":[ ],"d":{},"e":[1,[2]]}]'
    assert inspect.indent(text) == (
        '[\n    {\n        "b": 1.0,\n        "a": "x\\"{},:\\u003c",\n        "c": [],\n        "d": {},\n'
        '        "e": [\n            1,\n            [\n                2\n            ]\n        ]\n    }\n]'
    )
    assert inspect.compact(text) == text.replace(" ", "")


def test_version_shows_both_sides(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/version"] = json.dumps(
        {
            "Platform": {"Name": "wherry"},
            "Version": "1.2.3",
            "ApiVersion": "1.54",
            "Components": [
                {
                    "Name": "Engine",
                    "Version": "1.2.3",
                    "Details": {
                        "ApiVersion": "1.54",
                        "MinAPIVersion": "1.24",
                        "PythonVersion": "3.11.2",
                        "BuildTime": "2024-01-02T03:04:05.000000000+00:00",
                        "Os": "linux",
                        "Arch": "amd64",
                        "Experimental": "false",
                    },
                },
                {"Name": "kernel", "Version": "6.12", "Details": {"B": "2", "A": "1"}},
            ],
        }
    )
    code, output, _ = cli("version")
    assert code == 0
    assert output.split("\n\n")[1] == (
        "Server: wherry\n Engine:\n  Version:          1.2.3\n  API version:      1.54 (minimum version 1.24)\n"
        "  Python version:   3.11.2\n  Built:            Tue Jan  2 03:04:05 2024\n  OS/Arch:          linux/amd64\n"
        "  Experimental:     false\n kernel:\n  Version:          6.12\n  A:                1\n  B:                2\n"
    )
    assert cli("version", "-f", "{{.Server.Version}} {{.Client.APIVersion}}") == (0, "1.2.3 1.54\n", "")
    assert cli("version", "-f", "{{")[0] == 64


@pytest.mark.parametrize("command", ["version", "info"])
def test_without_an_engine_this_side_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    nowhere = f"unix://{tmp_path}/nothing"
    assert main.run(["-H", nowhere, command]) == 1
    output, error = capfd.readouterr()
    assert output.startswith("Client:\n Version: ")
    assert error == f"Cannot connect to the wherry daemon at {nowhere}. Is the wherry daemon running?\n"


def test_info_about_this_side_asks_no_engine(answering_engine: AnsweringEngine, cli: Cli) -> None:
    code, output, error = cli("info", "-f", "{{.ClientInfo.Context}} {{.ClientInfo.Debug}}")
    assert (code, output, error) == (0, "default false\n", "")
    assert answering_engine.requests == []
