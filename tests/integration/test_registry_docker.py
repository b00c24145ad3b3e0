"""Images between wherry and Docker by way of a registry: pushed by one, pulled and run by the other."""

import json

import pytest

from tests.support import registry as registries
from tests.support.docker_engine import DockerEngine
from tests.support.engine import Engine, docker_cli, run_client
from tests.support.registry import Registry


def digest_of(engine: Engine | DockerEngine, name: str) -> str:
    """Of the manifest that the engine knows an image by."""
    run = engine.docker if isinstance(engine, Engine) else engine
    digests = json.loads(run("inspect", "--format", "{{json .RepoDigests}}", name, check=True).stdout)
    [digest] = [found.partition("@")[2] for found in digests if found.partition("@")[0] == name.rpartition(":")[0]]
    return str(digest)


def id_of(engine: Engine | DockerEngine, name: str) -> str:
    run = engine.docker if isinstance(engine, Engine) else engine
    return run("inspect", "--format", "{{.Id}}", name, check=True).stdout


def make(engine: Engine | DockerEngine, name: str) -> None:
    """An image of two layers, with settings of its own."""
    run = engine.docker if isinstance(engine, Engine) else engine
    made = run("run", "-d", "--network", "none", "busybox", "sh", "-c", "echo cargo >/hold", check=True).stdout.strip()
    run("wait", made, check=True)
    changes = ["--change", 'CMD ["cat", "/hold"]', "--change", "ENV FLAG=blue"]
    run("commit", *changes, made, name, check=True)
    run("rm", made, check=True)


@pytest.mark.usefixtures("busybox")
class TestBothWays:
    def test_from_wherry_to_docker_and_back(self, registry: Registry, engine: Engine, dockerd: DockerEngine) -> None:
        name = f"{registry.host}/from/wherry:1"
        make(engine, name)
        engine.wherry("push", name, check=True)
        digest = registry.digest("from/wherry", "1")
        assert digest_of(engine, name) == digest
        assert f"Digest: {digest}" in dockerd("pull", name, check=True).stdout
        assert id_of(dockerd, name) == id_of(engine, name)
        assert dockerd("run", "--rm", "--network", "none", name, check=True).stdout == "cargo\n"
        again = f"{registry.host}/from/wherry/again:1"
        dockerd("tag", name, again, check=True)
        dockerd("push", again, check=True)
        self.pull_anew(engine, again)
        assert id_of(engine, again) == id_of(engine, name)
        for run in (engine.docker, dockerd):
            run("rmi", name, again, check=True)

    def test_from_docker_to_wherry_and_back(self, registry: Registry, engine: Engine, dockerd: DockerEngine) -> None:
        name = f"{registry.host}/from/docker:1"
        make(dockerd, name)
        dockerd("push", name, check=True)
        digest = registry.digest("from/docker", "1")
        identity = id_of(dockerd, name)
        dockerd("rmi", name, check=True)
        assert f"Digest: {digest}" in engine.wherry("pull", name, check=True).stdout
        assert id_of(engine, name) == identity
        assert engine.wherry("run", "--rm", name, check=True).stdout == "cargo\n"
        assert engine.wherry("run", "--rm", name, "sh", "-c", "echo $FLAG", check=True).stdout == "blue\n"
        again = f"{registry.host}/from/docker/again:1"
        engine.wherry("tag", name, again, check=True)
        assert "Mounted from from/docker" in engine.wherry("push", again, check=True).stdout
        assert registry.digest("from/docker/again", "1") == digest
        assert f"Digest: {digest}" in dockerd("pull", again, check=True).stdout
        assert dockerd("run", "--rm", "--network", "none", again, check=True).stdout == "cargo\n"
        engine.wherry("rmi", name, again, check=True)
        dockerd("rmi", again, check=True)

    def pull_anew(self, engine: Engine, name: str) -> None:
        """And run it: every layer is what it was."""
        engine.wherry("pull", name, check=True)
        assert engine.wherry("run", "--rm", name, check=True).stdout == "cargo\n"


def test_refused_log_in(engine: Engine, dockerd: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Both say the same of a wrong password, and end in the same way."""
    with registries.running(registries.with_password(tmp_path_factory.mktemp("guarded"))) as guarded:
        said = []
        log_in = [docker_cli(), "login", "-u", registries.USER, "--password-stdin", guarded.host]
        for host in (engine.host, dockerd.host):
            home = {"DOCKER_CONFIG": str(tmp_path_factory.mktemp("home"))}
            done = run_client(log_in, {"DOCKER_HOST": host}, input="wrong", env=home)
            said.append((done.returncode, "unauthorized" in done.stderr.lower()))
        assert said == [(1, True), (1, True)]
