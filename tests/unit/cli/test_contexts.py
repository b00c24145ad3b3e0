"""Contexts: docker's files, read and written by wherry."""

import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli
from wherry.cli import main

PEM = "-----BEGIN CERTIFICATE-----\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    for name in ("WHERRY_HOST", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def call(*words: str) -> tuple[int, str, str]:
        code = main.run(words)
        output = capfd.readouterr()
        return code, output.out, output.err

    return call


def test_the_life_of_a_context(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"psFormat": "x"}')
    made = run("context", "create", "remote", "--description", "some", "--docker", "host=ssh://me@there")
    assert made == (0, "remote\n", 'Successfully created context "remote"\n')
    meta = next(tmp_path.glob("contexts/meta/*/meta.json"))
    assert json.loads(meta.read_text()) == {
        "Name": "remote",
        "Metadata": {"Description": "some"},
        "Endpoints": {"docker": {"Host": "ssh://me@there", "SkipTLSVerify": False}},
    }
    assert run("context", "use", "remote") == (0, "remote\n", 'Current context is now "remote"\n')
    assert json.loads((tmp_path / "config.json").read_text()) == {"psFormat": "x", "currentContext": "remote"}
    assert run("context", "show")[1] == "remote\n"
    assert run("context", "ls", "--format", "{{.Name}} {{.Current}} {{.DockerEndpoint}}")[1].splitlines()[1:] == [
        "remote true ssh://me@there"
    ]
    assert "remote *   some" in run("context", "ls")[1]
    assert run("context", "rm", "remote")[::2] == (1, 'context "remote" is in use, set -f flag to force remove\n')
    assert run("context", "rm", "-f", "remote")[:2] == (0, "remote\n")
    assert json.loads((tmp_path / "config.json").read_text()) == {"psFormat": "x"}
    assert not list(tmp_path.glob("contexts/meta/*"))


def test_keys_are_kept_beside_it(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(PEM)
    run("context", "create", "secure", "--docker", f"host=tcp://there:2376,ca={tmp_path}/ca,skip-tls-verify=true")
    key = next(tmp_path.glob("contexts/tls/*/docker/ca.pem"))
    assert key.read_text() == PEM
    assert key.stat().st_mode & 0o777 == 0o600
    found = json.loads(run("context", "inspect", "secure")[1])[0]
    assert found["TLSMaterial"] == {"docker": ["ca.pem"]}
    assert found["Endpoints"]["docker"]["SkipTLSVerify"] is True
    assert run("context", "create", "copied", "--from", "secure")[0] == 0
    assert len(list(tmp_path.glob("contexts/tls/*/docker/ca.pem"))) == 2


def test_what_cannot_be(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "no-key").write_text("nothing")
    missing = f"open {tmp_path}/contexts/meta/"
    for words, reason in (
        (["use", "nope"], f'context "nope": context not found: {missing}'),
        (["inspect", "nope"], f'context "nope": context not found: {missing}'),
        (["create", "a/b"], 'context name "a/b" is invalid, names are validated against regexp "^[a-zA-Z0-9]'),
        (["create", "default"], '"default" is a reserved context name'),
        (["create", "xx", "--docker", "hst=1"], "unable to create docker endpoint config: hst: unrecognized"),
        (["create", "xx", "--docker", "host=foo://x"], "unable to create docker endpoint config: invalid docker"),
        (["create", "xx", "--docker", f"host=tcp://x,ca={tmp_path}/no-key"], "unable to create docker endpoint config: "
         "invalid docker endpoint options: failed to retrieve context tls info: ca.pem seems invalid"),
        (["rm", "default"], 'context "default" cannot be removed'),
        (["rm", "nope"], 'context "nope" does not exist'),
    ):  # fmt: skip
        code, _, error = run("context", *words)
        assert code == 1
        assert error.startswith(reason)
    assert run("context", "rm", "-f", "nope")[0] == 0


def test_an_address_in_the_environment_goes_before(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    run("context", "create", "remote", "--docker", "host=tcp://there:1")
    monkeypatch.setenv("DOCKER_HOST", "tcp://other:1")
    assert run("context", "show")[1] == "default\n"
    assert (
        "Warning: DOCKER_HOST environment variable overrides the active context" in run("context", "use", "remote")[2]
    )
    assert "Warning: DOCKER_HOST environment variable overrides the active context" in run("context", "ls")[2]
    assert "default *" in run("context", "ls")[1]
    assert os.environ["DOCKER_HOST"] in run("context", "ls")[1]


def test_a_context_goes_out_and_comes_in(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca").write_text(PEM)
    run("context", "create", "one", "--description", "some", "--docker", f"host=tcp://there:2376,ca={tmp_path}/ca")
    assert run("context", "export", "one") == (0, "", 'Written file "one.dockercontext"\n')
    assert run("context", "export", "one")[::2] == (1, "open one.dockercontext: file exists\n")
    with tarfile.open("one.dockercontext") as archive:
        assert archive.getnames() == ["meta.json", "tls", "tls/docker", "tls/docker/ca.pem"]
    assert run("context", "import", "two", "one.dockercontext") == (
        0, "two\n", 'Successfully imported context "two"\n',
    )  # fmt: skip
    first, second = (json.loads(run("context", "inspect", name)[1])[0] for name in ("one", "two"))
    for key in ("Metadata", "Endpoints", "TLSMaterial"):
        assert first[key] == second[key]
    assert run("context", "import", "two", "one.dockercontext")[::2] == (1, 'context "two" already exists\n')


def test_a_zip_comes_in_too(run: Cli, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("meta.json", '{"Name": "x", "Metadata": {}, "Endpoints": {"docker": {"Host": "tcp://z:1"}}}')
    assert run("context", "import", "zipped", str(tmp_path / "c.zip"))[0] == 0
    assert "tcp://z:1" in run("context", "inspect", "zipped")[1]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"other": "x"}, "invalid context: no metadata found"),
        ({"meta.json": "[]"}, "invalid context: meta.json does not describe one"),
        ({"meta.json": '{"Endpoints": {}}', "tls/docker/../../../../x": "x"}, "unexpected context file: tls/docker/.."),
    ],
)
def test_what_is_no_context(run: Cli, tmp_path: Path, files: dict[str, str], said: str) -> None:
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    code, _, errors = run("context", "import", "bad", str(tmp_path / "c.zip"))
    assert (code, errors[: len(said)]) == (1, said)
    (tmp_path / "text").write_text("text")
    assert run("context", "import", "bad", str(tmp_path / "text"))[0] == 1
    assert "bad" not in run("context", "ls")[1]


def test_a_context_is_updated(run: Cli) -> None:
    run("context", "create", "one", "--description", "some", "--docker", "host=tcp://there:1")
    assert run("context", "update", "one", "--description", "new") == (
        0, "one\n", 'Successfully updated context "one"\n',
    )  # fmt: skip
    template = "{{.Metadata.Description}} {{.Endpoints.docker.Host}}"
    assert run("context", "inspect", "one", "-f", template)[1] == "new tcp://there:1\n"
    run("context", "update", "one", "--docker", "host=tcp://there:2")
    assert run("context", "inspect", "one", "-f", template)[1] == "new tcp://there:2\n"
    assert run("context", "update", "none", "--description", "x")[0] == 1
    assert run("context", "update", "default")[::2] == (1, '"default" is a reserved context name\n')
