"""volume, prune and system df, without an engine behind them."""

import io
import json

import pytest

from tests.support.answering_engine import AnsweringEngine
from tests.unit.cli.conftest import Cli
from wherry.cli.values import natural_key


def test_volumes_are_sorted_as_people_do() -> None:
    assert sorted(["v10", "v9", "a", "v"], key=natural_key) == ["a", "v", "v9", "v10"]


def test_what_a_volume_is_made_with(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["POST /volumes/create"] = '{"Name": "data"}'
    assert cli("volume", "create", "--label", "a=b", "--label", "c", "-o", "type=tmpfs", "data")[:2] == (0, "data\n")
    assert json.loads(answering_engine.last.body) == {
        "Name": "data", "Driver": "local", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "b", "c": ""},
    }  # fmt: skip
    refused = cli("volume", "create", "--name", "x", "y")[2]
    assert refused.startswith(
        "conflicting options: cannot specify a volume-name through both --name and as a positional"
    )


@pytest.mark.parametrize(
    ("answer", "asked"), [("y\n", True), ("Y\n", True), ("yes\n", False), ("\n", False), ("", False)]
)
def test_only_y_is_yes(
    answering_engine: AnsweringEngine, cli: Cli, monkeypatch: pytest.MonkeyPatch, answer: str, asked: bool
) -> None:
    answering_engine.answers["/containers/prune"] = '{"ContainersDeleted": null, "SpaceReclaimed": 0}'
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert cli("container", "prune")[0] == 0
    assert bool(answering_engine.requests) == asked


def test_the_configuration_s_filters_go_with_it(answering_engine: AnsweringEngine, cli: Cli) -> None:
    (answering_engine.directory / "config.json").write_text(
        '{"pruneFilters": ["label=keep", "label!=drop", "nonsense"]}'
    )
    answering_engine.answers["/containers/prune"] = '{"ContainersDeleted": null, "SpaceReclaimed": 0}'
    cli("container", "prune", "-f", "--filter", "label!=keep")
    assert json.loads(answering_engine.last.query["filters"][0]) == {"label!": ["keep", "drop"]}


def test_volumes_do_not_go_by_age(cli: Cli) -> None:
    told = cli("system", "prune", "-f", "--volumes", "--filter", "until=1h")
    assert told[::2] == (1, 'ERROR: The "until" filter is not supported with "--volumes"\n')


def test_what_is_used_and_what_is_not(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/system/df"] = json.dumps(
        {
            "LayersSize": 1000,
            "Images": [
                {"Id": "sha256:1", "RepoTags": ["a:1"], "Size": 600, "SharedSize": 100, "Containers": 1},
                {"Id": "sha256:2", "RepoTags": ["b:1"], "Size": 500, "SharedSize": 100, "Containers": 0},
            ],
            "Containers": [{"Id": "1", "State": "running", "SizeRw": 30}, {"Id": "2", "State": "exited", "SizeRw": 70}],
            "Volumes": [
                {"Name": "used", "UsageData": {"Size": 10, "RefCount": 1}},
                {"Name": "free", "UsageData": {"Size": 90, "RefCount": 0}},
                {"Name": "unknown", "UsageData": {"Size": -1, "RefCount": 0}},
            ],
            "BuildCache": [],
        }
    )
    assert cli("system", "df")[1].splitlines()[1:] == [
        "Images          2         1         1kB       500B (50%)",
        "Containers      2         1         100B      70B (70%)",
        "Local Volumes   3         1         100B      90B (90%)",
        "Build Cache     0         0         0B        0B",
    ]
