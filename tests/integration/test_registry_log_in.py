"""Log-ins: passwords, identity tokens, where they are kept, and that nobody else sees them."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from tests.support import registry as registries
from tests.support.api_definition import ApiDefinition
from tests.support.engine import Engine
from tests.support.faults import HARMLESS, Fault, FaultyProxy, ScriptedRegistry
from tests.support.registry import PASSWORD, USER, Registry, TokenServer, tar_of

pytestmark = pytest.mark.skipif(
    not registries.installed(), reason="needs Debian's packages docker-registry and openssl"
)

Run = Callable[..., subprocess.CompletedProcess[str]]


class Chest:
    """A credential helper, docker-credential-chest, which keeps one log-in in the file ``kept``."""

    def __init__(self, directory: Path, home: dict[str, str]) -> None:
        self.kept = directory / "kept"
        self.config = Path(home["DOCKER_CONFIG"]) / "config.json"
        self.environment = {**home, "PATH": f"{directory}:{os.environ['PATH']}"}
        helper = directory / "docker-credential-chest"
        helper.write_text(
            "#!/bin/sh\ncase $1 in\n"
            f"store) cat >{self.kept};;\nerase) rm -f {self.kept};;\n"
            f"get) cat {self.kept} 2>/dev/null || {{ echo credentials not found; exit 1; }};;\nesac\n"
        )
        helper.chmod(0o755)

    def configure(self, config: dict[str, Any]) -> None:
        self.config.parent.mkdir()
        self.config.write_text(json.dumps(config))


@pytest.fixture
def chest(tmp_path: Path, home: dict[str, str]) -> Chest:
    return Chest(tmp_path, home)


class TestPassword:
    @pytest.fixture(scope="class")
    @classmethod
    def guarded(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
        with registries.running(registries.with_password(tmp_path_factory.mktemp("guarded"))) as found:
            yield found

    @pytest.mark.parametrize("client", ["docker", "wherry"])
    def test_log_in_push_pull_log_out(
        self, engine: Engine, guarded: Registry, busybox: str, home: dict[str, str], client: str
    ) -> None:
        run: Run = getattr(engine, client)
        name = f"{guarded.host}/with/password:{client}"
        run("tag", busybox, name, check=True)
        refused = run("push", name, env=home)
        assert refused.returncode == 1
        assert "no basic auth credentials" in refused.stderr
        wrong = run("login", "-u", USER, "--password-stdin", guarded.host, input="wrong\n", env=home)
        assert wrong.returncode == 1
        assert "unauthorized: authentication required" in wrong.stderr
        done = run("login", "-u", USER, "--password-stdin", guarded.host, input=f"{PASSWORD}\n", env=home)
        assert done.stdout.endswith("Login Succeeded\n"), done.stderr
        config = Path(home["DOCKER_CONFIG"]) / "config.json"
        assert config.stat().st_mode & 0o777 == 0o600
        assert list(json.loads(config.read_text())["auths"]) == [guarded.host]
        run("push", name, check=True, env=home)
        run("pull", name, check=True, env=home)
        assert "Login Succeeded" in run("login", guarded.host, env=home, check=True).stdout
        run("logout", guarded.host, check=True, env=home)
        assert run("pull", name, env=home).returncode == 1
        run("rmi", name, check=True)

    def test_a_users_helper(self, engine: Engine, guarded: Registry, busybox: str, chest: Chest) -> None:
        name = f"{guarded.host}/with/helper"
        engine.wherry("tag", busybox, name, check=True)
        chest.configure({"credsStore": "chest", "detachKeys": "ctrl-x"})
        engine.wherry(
            "login", "-u", USER, "--password-stdin", guarded.host, input=PASSWORD, env=chest.environment, check=True
        )
        assert PASSWORD not in chest.config.read_text()
        assert json.loads(chest.config.read_text())["detachKeys"] == "ctrl-x"
        assert json.loads(chest.kept.read_text())["Username"] == USER
        engine.wherry("push", name, env=chest.environment, check=True)
        engine.wherry("logout", guarded.host, env=chest.environment, check=True)
        assert not chest.kept.exists()
        engine.wherry("rmi", name, check=True)

    @pytest.mark.parametrize(("log_in", "use"), [("docker", "wherry"), ("wherry", "docker")])
    def test_the_log_in_of_one_client_serves_the_other(
        self, engine: Engine, guarded: Registry, busybox: str, home: dict[str, str], log_in: str, use: str
    ) -> None:
        name = f"{guarded.host}/by/{log_in}"
        one, other = getattr(engine, log_in), getattr(engine, use)
        one("login", "-u", USER, "--password-stdin", guarded.host, input=PASSWORD, env=home, check=True)
        other("tag", busybox, name, check=True)
        other("push", name, env=home, check=True)
        other("logout", guarded.host, env=home, check=True)
        assert one("push", name, env=home).returncode == 1
        one("rmi", name, check=True)

    def test_docker_py(self, docker_client: Any, guarded: Registry, busybox: str) -> None:
        name = f"{guarded.host}/by/docker-py"
        docker_client.images.get(busybox).tag(name, "1")
        log_in = {"username": USER, "password": PASSWORD}
        with pytest.raises(docker.errors.APIError, match="unauthorized"):
            docker_client.login(USER, "wrong", registry=guarded.host)
        assert docker_client.login(USER, PASSWORD, registry=guarded.host)["Status"] == "Login Succeeded"
        *_, last = docker_client.images.push(name, "1", auth_config=log_in, stream=True, decode=True)
        assert last["aux"]["Tag"] == "1"
        assert docker_client.images.get_registry_data(name + ":1", auth_config=log_in).id == last["aux"]["Digest"]
        docker_client.images.remove(f"{name}:1")
        [pulled] = docker_client.images.pull(name, all_tags=True, auth_config=log_in)
        assert {busybox, f"{name}:1"} <= set(pulled.tags)
        with pytest.raises(docker.errors.NotFound):
            docker_client.images.pull(name, "2", auth_config=log_in)
        docker_client.images.remove(f"{name}:1")

    def test_over_the_api(self, engine: Engine, guarded: Registry, api_definition: ApiDefinition) -> None:
        right = {"username": USER, "password": PASSWORD, "serveraddress": guarded.host}
        answer = engine.request("POST", "/v1.51/auth", right)
        assert (answer.status, answer.body) == (200, {"Status": "Login Succeeded", "IdentityToken": ""})
        api_definition.check("POST", "/auth", 200, answer.body)
        for wrong in (right | {"password": "wrong"}, {"serveraddress": guarded.host}):
            answer = engine.request("POST", "/v1.51/auth", wrong)
            assert answer.status == 401
            api_definition.check("POST", "/auth", 401, answer.body)

    def test_a_redirect_takes_no_log_in_along(
        self, engine: Engine, guarded: Registry, home: dict[str, str], tmp_path: Path
    ) -> None:
        """Blobs that are kept elsewhere, as large registries do, at addresses that are as good as a password."""
        elsewhere = ScriptedRegistry()

        def away(method: str, path: str, count: int) -> Fault:
            if method != "GET" or "/blobs/sha256:" not in path:
                return HARMLESS
            digest = path.rpartition(":")[2]
            place = guarded.directory / f"data/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"
            target = f"{path}?signature=7e57"
            elsewhere.pages[target] = (place.read_bytes(), "application/octet-stream")
            return Fault(status=307, headers=(("Location", f"http://{elsewhere.host}{target}"),))

        proxy = FaultyProxy(guarded.host, away)
        name = f"{proxy.host}/with/redirect"
        try:
            (tmp_path / "root.tar").write_bytes(tar_of({"cargo": b"tea"}))
            engine.wherry("import", str(tmp_path / "root.tar"), name, check=True)
            engine.wherry("login", "-u", USER, "--password-stdin", proxy.host, input=PASSWORD, env=home, check=True)
            engine.wherry("push", name, env=home, check=True)
            engine.wherry("rmi", name, check=True)
            engine.wherry("pull", name, env=home, check=True)
            assert [method for method, _, _ in elsewhere.requests] == ["GET", "GET"]  # the configuration and the layer
            assert not [headers for _, _, headers in elsewhere.requests if "authorization" in headers]
            engine.wherry("rmi", name, check=True)
            elsewhere.stop()  # what cannot be reached is named without its signature
            refused = engine.wherry("pull", name, env=home)
            assert f"{elsewhere.host}/v2/with/redirect/blobs/sha256:" in refused.stderr
            assert "7e57" not in refused.stderr + engine.log_text()
        finally:
            proxy.stop()

    def test_no_secret_in_the_log(self, engine: Engine) -> None:
        assert PASSWORD not in engine.log_text()
        assert PASSWORD.partition(":")[0] not in engine.log_text()


class TestTokens:
    @pytest.fixture(scope="class")
    @classmethod
    def tokens(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
        server = TokenServer(tmp_path_factory.mktemp("tokens"))
        yield server
        server.stop()

    @pytest.fixture(scope="class")
    @classmethod
    def behind(cls, tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
        with registries.running(tokens.registry(tmp_path_factory.mktemp("behind"))) as found:
            yield found

    @pytest.mark.parametrize("client", ["docker", "wherry"])
    def test_identity_token(
        self, engine: Engine, behind: Registry, tokens: TokenServer, busybox: str, home: dict[str, str], client: str
    ) -> None:
        run: Run = getattr(engine, client)
        name = f"{behind.host}/with/token:{client}"
        run("tag", busybox, name, check=True)
        refused = run("push", name, env=home)
        assert refused.returncode == 1
        assert "unauthorized" in refused.stderr or "denied" in refused.stderr
        wrong = run("login", "-u", USER, "--password-stdin", behind.host, input="wrong\n", env=home)
        assert "incorrect username or password" in wrong.stderr
        run("login", "-u", USER, "--password-stdin", behind.host, input=f"{PASSWORD}\n", env=home, check=True)
        config = (Path(home["DOCKER_CONFIG"]) / "config.json").read_text()
        assert json.loads(config)["auths"][behind.host]["identitytoken"] == tokens.refresh_token
        tokens.requests.clear()
        run("push", name, check=True, env=home)
        assert any("pull,push" in " ".join(asked["scope"]) for asked in tokens.requests if "scope" in asked)
        run("rmi", name, check=True)
        run("pull", name, check=True, env=home)
        run("rmi", name, check=True)

    def test_anonymous(self, engine: Engine, behind: Registry, tokens: TokenServer, busybox: str) -> None:
        tokens.anonymous = True
        try:
            engine.wherry("tag", busybox, f"{behind.host}/open", check=True)
            engine.wherry("push", f"{behind.host}/open", check=True)
            engine.wherry("pull", f"{behind.host}/open", check=True)
        finally:
            tokens.anonymous = False

    @pytest.mark.parametrize("client", ["docker", "wherry"])
    @pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
    def test_identity_token_with_a_helper(
        self, engine: Engine, behind: Registry, tokens: TokenServer, busybox: str, chest: Chest, client: str,
        setting: str,
    ) -> None:  # fmt: skip
        """The helper keeps the token under the name that docker gives it, and no other place has it."""
        run: Run = getattr(engine, client)
        name = f"{behind.host}/helped/{client}:{setting.lower()}"
        chest.configure({setting: "chest" if setting == "credsStore" else {behind.host: "chest"}})
        run("login", "-u", USER, "--password-stdin", behind.host, input=PASSWORD, env=chest.environment, check=True)
        kept = json.loads(chest.kept.read_text())
        assert kept == {"ServerURL": behind.host, "Username": "<token>", "Secret": tokens.refresh_token}
        assert tokens.refresh_token not in chest.config.read_text()
        run("tag", busybox, name, check=True)
        tokens.requests.clear()
        run("push", name, env=chest.environment, check=True)
        assert any(asked.get("refresh_token") == [tokens.refresh_token] for asked in tokens.requests)
        assert not any("account" in asked for asked in tokens.requests)
        run("logout", behind.host, env=chest.environment, check=True)
        assert not chest.kept.exists()
        run("rmi", name, check=True)

    def test_a_helper_for_another_registry(self, engine: Engine, behind: Registry, busybox: str, chest: Chest) -> None:
        """It is not asked, and the log-in goes to the file."""
        chest.configure({"credHelpers": {"elsewhere.example": "chest"}})
        engine.wherry(
            "login", "-u", USER, "--password-stdin", behind.host, input=PASSWORD, env=chest.environment, check=True
        )
        assert not chest.kept.exists()
        assert list(json.loads(chest.config.read_text())["auths"]) == [behind.host]

    def test_no_token_in_the_log(self, engine: Engine, tokens: TokenServer) -> None:
        assert tokens.refresh_token not in engine.log_text()
