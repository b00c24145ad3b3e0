"""volume, prune and system df, without an engine behind them."""

import io
import json
from typing import Any

import pytest

from tests.support.answering_engine import AnsweringEngine
from tests.unit.cli.conftest import Cli
from wherry.common.values import natural_key


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
            "BuildCache": [_record("1", Size=5, Shared=True), _record("2", Size=7, InUse=True), _record("3", Size=8)],
        }
    )
    assert cli("system", "df")[1].splitlines()[1:] == [
        "Images          2         1         1kB       500B (50%)",
        "Containers      2         1         100B      70B (70%)",
        "Local Volumes   3         1         100B      90B (90%)",
        "Build Cache     3         1         15B       8B",
    ]


def test_the_build_cache_record_by_record(answering_engine: AnsweringEngine, cli: Cli) -> None:
    used = _record("a" * 64, LastUsedAt="2024-05-06T07:08:09.5Z", InUse=True, UsageCount=3, Size=2000)
    answering_engine.answers["/system/df"] = json.dumps({"BuildCache": [used, _record("b" * 64, Size=1, Shared=True)]})
    shown = cli("system", "df", "-v")[1].partition("Build cache usage: ")[2].splitlines()
    assert shown[0] == "2kB" and shown[2].split("  ")[0] == "CACHE ID"
    assert [line.split()[:3] for line in shown[3:]] == [
        ["bbbbbbbbbbbb", "regular", "1B"],
        ["a" * 12 + "*", "regular", "2kB"],
    ]
    assert [line.split()[-2:] for line in shown[3:]] == [["0", "true"], ["3", "false"]]
    told = json.loads(cli("system", "df", "-v", "--format", "json")[1])["BuildCache"]
    assert told[1]["ID"] == "a" * 64 and told[1]["LastUsedAt"] == "2024-05-06 07:08:09.5 +0000 UTC"
    format = "{{range .BuildCache}}{{.ID}} {{.Description}} {{.CreatedSince}};{{end}}"
    assert cli("system", "df", "-v", "--format", format)[1].startswith(f"{'b' * 64} RUN it ")


def _record(identity: str, **more: Any) -> dict[str, Any]:
    return {
        "ID": identity, "Type": "regular", "Description": "RUN it", "InUse": False, "Shared": False, "Size": 0,
        "CreatedAt": "2024-01-02T03:04:05Z", "LastUsedAt": "2024-01-02T03:04:05Z", "UsageCount": 0, **more,
    }  # fmt: skip
