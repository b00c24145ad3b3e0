"""Volumes, ``prune`` and ``system df``, by docker's command line and by wherry's."""

import re
from pathlib import Path

import pytest

from tests.clients.conftest import Cli
from tests.support.engine import Engine


def test_the_life_of_a_volume(cli: Cli, busybox: str) -> None:
    assert cli.ok("volume", "create", "--label", "a=b", "vol10") == "vol10"
    assert cli.ok("volume", "create", "vol9") == "vol9"
    assert cli.ok("volume", "ls") == "DRIVER    VOLUME NAME\nlocal     vol9\nlocal     vol10"
    assert cli.ok("volume", "ls", "-q", "--filter", "label=a=b") == "vol10"
    assert cli.ok("volume", "ls", "--format", "{{.Name}}: {{.Labels}}") == "vol9: \nvol10: a=b"
    user = cli.ok("create", "-v", "vol9:/data", busybox)
    assert cli.ok("volume", "ls", "-q", "-f", "dangling=true") == "vol10"
    assert "volume is in use - [" + user in cli.fails("volume", "rm", "vol9")
    failed = cli("volume", "rm", "vol10", "nope")
    assert (failed.stdout, failed.stderr) == ("vol10\n", "Error response from daemon: get nope: no such volume\n")
    cli.ok("rm", user)
    cli.ok("volume", "rm", "vol9")
    assert "includes invalid characters" in cli.fails("volume", "create", "a/b")


def test_a_volume_goes_out_and_comes_in_again(engine: Engine, busybox: str, tmp_path: Path) -> None:
    for words in (
        ("run", "--rm", "-v", "from:/v", busybox, "sh", "-c", "mkdir /v/d; echo hi >/v/d/f; chown 12:34 /v/d/f"),
        ("volume", "export", "-o", str(tmp_path / "volume.tar"), "from"),
        ("volume", "create", "to"),
        ("volume", "import", "to", str(tmp_path / "volume.tar")),
    ):
        engine.wherry(*words, check=True)
    shown = engine.wherry("run", "--rm", "-v", "to:/v", busybox, "stat", "-c", "%u:%g %s", "/v/d/f", check=True)
    assert shown.stdout == "12:34 3\n"
    failed = engine.wherry("volume", "export", "nope")
    assert (failed.returncode, failed.stderr) == (1, "Error response from daemon: get nope: no such volume\n")
    engine.wherry("volume", "rm", "from", "to", check=True)


def test_prune_takes_what_nobody_needs(cli: Cli, busybox: str, clean_images: None) -> None:
    ended = cli.ok("run", "--label", "x", "-d", "-v", "/anonymous", busybox, "sh", "-c", "echo 12345678 >/f")
    kept = cli.ok("create", "--label", "keep", busybox)
    runs = cli.ok("run", "-d", busybox, "sleep", "60")
    cli.ok("wait", ended)
    cli.ok("volume", "create", "named")
    assert cli.ok("container", "prune", "-f", "--filter", "until=1h") == "Total reclaimed space: 0B"
    assert "invalid filter 'foo'" in cli.fails("container", "prune", "-f", "--filter", "foo=bar")
    asked = cli("container", "prune", input="n\n")
    warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "
    assert (asked.returncode, asked.stdout.removesuffix("\n")) == (0, warning.removesuffix("\n"))
    told = cli("container", "prune", "--filter", "label!=keep", input="y\n", check=True).stdout
    assert told == f"{warning}Deleted Containers:\n{ended}\n\nTotal reclaimed space: 9B\n"
    assert set(cli.ok("ps", "-aq", "--no-trunc").split()) == {kept, runs}
    assert re.fullmatch(r"Deleted Volumes:\n[0-9a-f]{64}\n\nTotal reclaimed space: 0B", cli.ok("volume", "prune", "-f"))
    assert "named" in cli.ok("volume", "prune", "-af")
    assert cli.ok("volume", "ls", "-q") == ""


def test_prune_of_images(cli: Cli, busybox: str, clean_images: None) -> None:
    """Those with a label, as the image that all tests share must stay."""
    container = cli.ok("run", "-d", busybox, "sh", "-c", "echo 12345678 >/f")
    cli.ok("wait", container)
    dangling = cli.ok("commit", "-c", "LABEL prune=1", container)
    tagged = cli.ok("commit", "-c", "LABEL prune=2", container, "pruned:1")
    used = cli.ok("commit", "-c", "LABEL prune=3", container, "used:1")
    cli.ok("tag", "used:1", "used:2")
    cli.ok("create", "used:1", "true")
    only = ["--filter", "label=prune"]
    assert cli.ok("image", "prune", "-f", *only, "--filter", "until=1h") == "Total reclaimed space: 0B"
    told = cli.ok("image", "prune", "-f", *only)
    assert told.startswith(f"Deleted Images:\ndeleted: {dangling}\n")
    assert "pruned" not in told
    told = cli.ok("image", "prune", "-af", *only)
    assert told.startswith(f"Deleted Images:\nuntagged: pruned:1\ndeleted: {tagged}\n")
    assert "used" not in told
    cli.ok("container", "prune", "-f")
    told = cli.ok("system", "prune", "-af", *only)
    assert f"deleted: {used}" in told
    assert re.search(r"Total reclaimed space: [1-9][0-9.]*k?B$", told)  # the layer, which all three shared


def test_two_filters_until_are_too_many(cli: Cli) -> None:
    told = cli.fails("image", "prune", "-f", "--filter", "until=1h", "--filter", "until=2h")
    assert told == "Error response from daemon: more than one until filter specified\n"


def test_disk_usage(cli: Cli, busybox: str) -> None:
    cli.ok("volume", "create", "counted")
    name = cli.ok("run", "-d", "-v", "counted:/v", busybox, "sh", "-c", "echo 1234567 >/f; echo 123 >/v/f; sleep 60")
    cli.ok("exec", name, "sh", "-c", "while ! [ -e /v/f ]; do sleep 0.01; done")
    lines = cli.ok(
        "system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"
    ).split("\n")
    assert "Containers|1|1|8B|0B (0%)" in lines
    assert "Local Volumes|1|1|4B|0B (0%)" in lines
    assert "Build Cache|0|0|0B|0B" in lines
    assert lines[0].startswith("Images|")
    verbose = cli.ok("system", "df", "-v")
    assert re.search(r"^counted +1 +4B$", verbose, re.MULTILINE)
    assert cli.ok("system", "df", "-v", "--format", "{{range .Volumes}}{{.Name}} {{.Links}}{{end}}") == "counted 1"
    cli.ok("rm", "-f", name)
    assert "Local Volumes|1|0|4B|4B (100%)" in cli.ok(
        "system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"
    )
    cli.ok("volume", "rm", "counted")


def test_disk_usage_of_one_kind(engine: Engine) -> None:
    assert set(engine.request("GET", "/v1.51/system/df?type=volume").body) == {"Volumes"}
    refused = engine.request("GET", "/v1.51/system/df?type=nope")
    assert (refused.status, refused.body) == (400, {"message": "unknown object type: nope"})


@pytest.mark.parametrize("words", [("volume", "prune"), ("image", "prune"), ("system", "prune", "--volumes")])
def test_no_is_the_answer_of_who_says_nothing(cli: Cli, words: tuple[str, ...]) -> None:
    asked = cli(*words)
    assert asked.returncode == 0
    assert asked.stdout.rstrip("\n").endswith("Are you sure you want to continue? [y/N] ")
