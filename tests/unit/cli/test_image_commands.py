"""tag, rmi, load, save and import: what they ask of the engine, and what they say."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.answering_engine import AnsweringEngine

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("target", "repository", "tag"),
    [
        ("a", "a", "latest"),
        ("a/b:1.0", "a/b", "1.0"),
        ("docker.io/library/a:x", "a", "x"),
        ("localhost:5000/a", "localhost:5000/a", "latest"),
    ],
)
def test_tag(answering_engine: AnsweringEngine, cli: Cli, target: str, repository: str, tag: str) -> None:
    answering_engine.answers["POST /images/src:1/tag"] = (201, "")
    assert cli("tag", "src:1", target) == (0, "", "")
    assert answering_engine.last.query == {"repo": [repository], "tag": [tag]}


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (
            "UPPER",
            'Error parsing reference: "UPPER" is not a valid repository/tag: '
            "invalid reference format: repository name (library/UPPER) must be lowercase\n",
        ),
        ("x:y:z", 'Error parsing reference: "x:y:z" is not a valid repository/tag: invalid reference format\n'),
        ("x@sha256:" + "1" * 64, "refusing to create a tag with a digest reference\n"),
    ],
)
def test_a_bad_tag_is_not_sent(answering_engine: AnsweringEngine, cli: Cli, target: str, error: str) -> None:
    assert cli("tag", "src", target) == (1, "", error)
    assert answering_engine.requests == []


def test_rmi_tells_what_went_and_goes_on_after_an_error(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["DELETE /images/a"] = json.dumps([{"Untagged": "a:latest"}, {"Deleted": "sha256:1"}])
    answering_engine.answers["DELETE /images/busy"] = (409, json.dumps({"message": "conflict: in use"}))
    code, output, error = cli("rmi", "nope", "busy", "a")
    assert (code, output) == (1, "Untagged: a:latest\nDeleted: sha256:1\n")
    assert error == (
        "Error response from daemon: no such image: nope: No such image: nope:latest\n"
        "Error response from daemon: conflict: in use\n"
    )


def test_rmi_by_force_of_what_is_not_there_is_no_failure(answering_engine: AnsweringEngine, cli: Cli) -> None:
    code, output, error = cli("image", "rm", "-f", "--no-prune", "nope")
    assert (code, output) == (0, "")
    assert "No such image" in error
    assert answering_engine.last.query == {"force": ["1"], "noprune": ["1"]}


def test_load_sends_the_file_and_shows_what_was_loaded(
    answering_engine: AnsweringEngine, cli: Cli, tmp_path: Path
) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(os.urandom(3_000_000))
    answering_engine.answers["POST /images/load"] = (
        '{"stream":"Loaded image: a:1\\n"}\r\n{"stream":"Loaded image: b:2\\n"}\r\n'
    )
    assert cli("load", "-i", str(archive)) == (0, "Loaded image: a:1\nLoaded image: b:2\n", "")
    assert answering_engine.last.body == archive.read_bytes()
    assert answering_engine.last.query == {"quiet": ["1"]}


def test_load_tells_what_the_engine_found_wrong(answering_engine: AnsweringEngine, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"junk")
    answering_engine.answers["POST /images/load"] = (
        '{"errorDetail":{"message":"unexpected EOF"},"error":"unexpected EOF"}\r\n'
    )
    assert cli("load", "-i", str(tmp_path / "a.tar")) == (1, "", "unexpected EOF\n")


def test_load_of_a_file_that_is_not_there(cli: Cli) -> None:
    assert cli("load", "-i", "/nope") == (1, "", "open /nope: no such file or directory\n")


def test_save_writes_a_file_that_is_whole(answering_engine: AnsweringEngine, cli: Cli, tmp_path: Path) -> None:
    answering_engine.answers["/images/get"] = "the archive"
    target = tmp_path / "out.tar"
    assert cli("save", "-o", str(target), "a", "b:1") == (0, "", "")
    assert target.read_text() == "the archive"
    assert target.stat().st_mode & 0o777 == 0o600
    assert answering_engine.last.query == {"names": ["a", "b:1"]}


def test_save_that_fails_leaves_nothing_behind(answering_engine: AnsweringEngine, cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    target.write_text("before")
    before = sorted(os.listdir(tmp_path))
    assert cli("save", "-o", str(target), "nope")[0] == 1
    assert target.read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == before


def test_save_to_standard_output(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/images/get"] = "the archive"
    assert cli("save", "a") == (0, "the archive", "")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nonexistent/x", "invalid output path: stat /nonexistent: no such file or directory"),
        ("/", "cannot write to a directory"),
        ("/dev/null", "cannot write to a character device file"),
    ],
)
def test_save_where_nothing_can_be(cli: Cli, path: str, why: str) -> None:
    assert cli("save", "-o", path, "a") == (1, "", f"failed to save image: {why}\n")


def test_import(answering_engine: AnsweringEngine, cli: Cli, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(b"a tar")
    answering_engine.answers["POST /images/create"] = '{"status":"sha256:1234"}\r\n'
    words = ("import", "-m", "why", "-c", "ENV A=B", "-c", 'CMD ["sh"]', str(archive), "a:1")
    assert cli(*words) == (0, "sha256:1234\n", "")
    assert answering_engine.last.body == b"a tar"
    assert answering_engine.last.query == {
        "fromSrc": ["-"],
        "repo": ["a:1"],
        "message": ["why"],
        "changes": ["ENV A=B", 'CMD ["sh"]'],
    }


def test_import_from_an_address_is_the_engines_work(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["POST /images/create"] = '{"status":"sha256:1234"}\r\n'
    assert cli("import", "http://host/root.tar", "a") == (0, "sha256:1234\n", "")
    assert answering_engine.last.query["fromSrc"] == ["http://host/root.tar"]
    assert answering_engine.last.body == b""
