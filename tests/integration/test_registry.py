"""Pull, push and run with a real registry server: plain, with TLS, with passwords, and behind a token server."""

import gzip
import io
import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import zstandard

from tests.support import registry as registries
from tests.support.engine import CACHE, Engine
from tests.support.registry import PASSWORD, USER, Registry, TokenServer
from wherry.linux import binfmt

pytestmark = pytest.mark.skipif(not registries.installed(), reason="needs Debian's package docker-registry")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.running(Registry(tmp_path_factory.mktemp("registry"))) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """A client's environment with a configuration of its own."""
    return {"DOCKER_CONFIG": str(tmp_path / "docker"), "HOME": str(tmp_path)}


def tar_of(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture(scope="session")
def busybox_tar() -> bytes:
    content = (CACHE / "busybox").read_bytes()
    return tar_of({"bin/busybox": content, "bin/sh": content, "bin/cat": content, "bin/uname": content})


def pull(engine: Engine, name: str, **options: Any) -> list[dict[str, Any]]:
    """The messages of a pull over the API; an error of the stream is the last."""
    query = "&".join(f"{key}={value}" for key, value in {"fromImage": name, **options}.items())
    answer = engine.request("POST", f"/v1.51/images/create?{query}")
    return lines(answer.body)


def lines(body: Any) -> list[Any]:
    """The values of a stream of JSON, however many it has."""
    return [json.loads(line) for line in body.splitlines() if line.strip()] if isinstance(body, bytes) else [body]


def last_error(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1].get("error") or messages[-1].get("message") or "")


class TestRoundTrip:
    def test_pushed_pulled_and_run(self, registry: Registry, engine: Engine, busybox: str, docker: Run) -> None:
        name = f"{registry.host}/round/trip:1"
        docker("tag", busybox, name, check=True)
        pushed = docker("push", name, check=True).stdout
        digest = registry.digest("round/trip", "1")
        assert f"1: digest: {digest} size: " in pushed
        docker("rmi", name, check=True)
        pulled = docker("pull", name, check=True).stdout
        assert f"Digest: {digest}" in pulled
        assert f"Status: Downloaded newer image for {name}" in pulled or "Image is up to date" in pulled
        assert docker("run", "--rm", name, "echo", "aboard", check=True).stdout == "aboard\n"
        inspected = json.loads(docker("inspect", name, check=True).stdout)[0]
        assert f"{registry.host}/round/trip@{digest}" in inspected["RepoDigests"]

    @pytest.mark.parametrize("kind", ["gzip", "zstd", "plain", "docker"])
    def test_every_kind_of_layer_keeps_its_digest(
        self, registry: Registry, engine: Engine, busybox_tar: bytes, wherry: Run, kind: str
    ) -> None:
        second = tar_of({"layer": kind.encode()})
        pack: Callable[[bytes], bytes] = {
            "gzip": gzip.compress, "docker": gzip.compress, "zstd": zstandard.compress, "plain": bytes,
        }[kind]  # fmt: skip
        media_type = {
            "gzip": registries.OCI_LAYER + "+gzip", "docker": registries.DOCKER_LAYER,
            "zstd": registries.OCI_LAYER + "+zstd", "plain": registries.OCI_LAYER,
        }[kind]  # fmt: skip
        made = registry.put_image(
            f"kinds/{kind}",
            "1",
            [(pack(busybox_tar), media_type), (pack(second), media_type)],
            plain=[busybox_tar, second],
            media_type=registries.DOCKER_MANIFEST if kind == "docker" else registries.OCI_MANIFEST,
            more={"annotations": {"of.nobody": "kept"}, "unknown": {"field": [1, 2]}},
        )
        name = f"{registry.host}/kinds/{kind}:1"
        assert f"Digest: {made['digest']}" in wherry("pull", name, check=True).stdout
        assert wherry("run", "--rm", name, "/bin/sh", "-c", "cat /layer", check=True).stdout == kind
        copy = f"{registry.host}/copies/{kind}:1"
        wherry("tag", name, copy, check=True)
        assert "Mounted from" in wherry("push", copy, check=True).stdout
        assert registry.digest(f"copies/{kind}", "1") == made["digest"]
        wherry("rmi", name, copy, check=True)

    def test_by_digest_and_all_tags(self, registry: Registry, busybox_tar: bytes, wherry: Run) -> None:
        layer = (gzip.compress(busybox_tar), registries.OCI_LAYER + "+gzip")
        for tag in ("1", "2"):
            made = registry.put_image("many", tag, [layer], plain=[busybox_tar], config={"Labels": {"tag": tag}})
        name = f"{registry.host}/many"
        wherry("pull", f"{name}@{made['digest']}", check=True)
        listed = wherry("images", "--digests", "--format", "{{.Tag}} {{.Digest}}", name, check=True).stdout
        assert listed == f"<none> {made['digest']}\n"
        done = wherry("pull", "--all-tags", name, check=True).stdout
        assert done.count("Digest: ") == 2
        assert set(wherry("images", "--format", "{{.Tag}}", name, check=True).stdout.split()) == {"1", "2"}
        wherry("rmi", f"{name}:1", f"{name}:2", check=True)

    def test_what_is_there_is_not_fetched(self, registry: Registry, busybox_tar: bytes, wherry: Run) -> None:
        base = (gzip.compress(busybox_tar), registries.OCI_LAYER + "+gzip")
        more = tar_of({"more": b"more"})
        registry.put_image("base", "1", [base], plain=[busybox_tar])
        registry.put_image("above", "1", [base, (more, registries.OCI_LAYER)], plain=[busybox_tar, more])
        wherry("pull", f"{registry.host}/base:1", check=True)
        done = wherry("pull", f"{registry.host}/above:1", check=True).stdout
        assert done.count("Already exists") == 1
        assert "Image is up to date" in wherry("pull", f"{registry.host}/above:1", check=True).stdout
        pushed = wherry("push", f"{registry.host}/above:1", check=True).stdout
        assert pushed.count("Layer already exists") == 2
        wherry("rmi", f"{registry.host}/base:1", f"{registry.host}/above:1", check=True)

    def test_ipv6(self, tmp_path: Path, busybox: str, wherry: Run) -> None:
        with registries.running(Registry(tmp_path, address="::1")) as found:
            wherry("tag", busybox, f"{found.host}/six", check=True)
            wherry("push", f"{found.host}/six", check=True)
            assert "up to date" in wherry("pull", f"{found.host}/six", check=True).stdout
            wherry("rmi", f"{found.host}/six", check=True)

    def test_what_was_made_here_has_one_digest(self, registry: Registry, busybox: str, wherry: Run) -> None:
        name = f"{registry.host}/made/here"
        container = wherry("run", "-d", busybox, "sh", "-c", "echo new >/new", check=True).stdout.strip()
        wherry("wait", container, check=True)
        wherry("commit", container, name, check=True)
        wherry("push", name, check=True)
        first = registry.digest("made/here", "latest")
        wherry("push", name, check=True)
        assert registry.digest("made/here", "latest") == first
        wherry("rm", container, check=True)
        wherry("rmi", name, check=True)
        wherry("pull", name, check=True)
        assert wherry("run", "--rm", name, "cat", "/new", check=True).stdout == "new\n"

    def test_events(self, registry: Registry, engine: Engine, busybox_tar: bytes) -> None:
        registry.put_image("events", "1", [(busybox_tar, registries.OCI_LAYER)])
        pull(engine, f"{registry.host}/events", tag="1")
        filters = quote(json.dumps({"event": ["pull"]}))
        now = engine.request("GET", "/v1.51/info").body["SystemTime"]
        events = lines(engine.request("GET", f"/v1.51/events?since=0&until={now}&filters={filters}").body)
        assert events[-1]["Actor"]["ID"] == f"{registry.host}/events:1"


class TestPlatforms:
    @pytest.fixture
    def index(self, registry: Registry, busybox_tar: bytes) -> str:
        entries = []
        for architecture in ("386", "amd64", "arm64"):
            mark = tar_of({"architecture": architecture.encode()})
            entries.append(
                registry.put_image(
                    "index",
                    f"only-{architecture}",
                    [(busybox_tar, registries.OCI_LAYER), (mark, registries.OCI_LAYER)],
                    platform={"architecture": architecture, "os": "linux"},
                )
            )
        document = {"schemaVersion": 2, "mediaType": registries.OCI_INDEX, "manifests": entries}
        made = registry.put_manifest("index", "1", document)
        return str(made["digest"])

    def test_of_this_machine(self, registry: Registry, wherry: Run, index: str) -> None:
        name = f"{registry.host}/index:1"
        assert f"Digest: {index}" in wherry("pull", name, check=True).stdout
        assert wherry("run", "--rm", name, "cat", "/architecture", check=True).stdout == "amd64"
        pinned = f"{registry.host}/index@{index}"
        assert wherry("run", "--rm", pinned, "cat", "/architecture", check=True).stdout == "amd64"
        wherry("rmi", "-f", name, check=True)

    def test_32_bits(self, registry: Registry, wherry: Run, index: str) -> None:
        name = f"{registry.host}/index:1"
        done = wherry("run", "--rm", "--platform", "linux/386", name, "sh", "-c", "cat /architecture; busybox uname -m")
        assert done.stdout == "386i686\n", done.stderr
        # The other image of the same name is not taken for it.
        done = wherry(
            "run", "--rm", "--platform", "linux/amd64", name, "sh", "-c", "cat /architecture; busybox uname -m"
        )
        assert done.stdout == "amd64x86_64\n", done.stderr
        wherry("rmi", "-f", name, check=True)

    def test_tree_of_platforms(self, registry: Registry, engine: Engine, wherry: Run, docker: Run, index: str) -> None:
        name = f"{registry.host}/index:1"
        wherry("pull", name, check=True)
        [image] = [
            each for each in engine.request("GET", "/v1.51/images/json?manifests=1").body if name in each["RepoTags"]
        ]
        there = {each["ImageData"]["Platform"]["architecture"]: each["Available"] for each in image["Manifests"]}
        assert there["amd64"]
        assert not there["arm64"]
        tree = docker("image", "ls", "--tree", name, check=True).stdout
        assert "linux/arm64" in tree
        wherry("rmi", "-f", name, check=True)

    def test_no_such_platform(self, registry: Registry, engine: Engine, index: str) -> None:
        messages = pull(engine, f"{registry.host}/index", tag="1", platform="linux/s390x")
        assert last_error(messages) == "no matching manifest for linux/s390x in the manifest list entries"

    def test_distribution_and_manifest_inspect(
        self, registry: Registry, engine: Engine, wherry: Run, index: str, api_definition: Any
    ) -> None:
        answer = engine.request("GET", f"/v1.51/distribution/{registry.host}/index:1/json")
        assert answer.status == 200
        assert answer.body["Descriptor"]["digest"] == index
        assert {each["architecture"] for each in answer.body["Platforms"]} == {"386", "amd64", "arm64"}
        api_definition.check("GET", "/distribution/{name}/json", 200, answer.body)
        shown = json.loads(wherry("manifest", "inspect", f"{registry.host}/index:1", check=True).stdout)
        assert len(shown["manifests"]) == 3
        verbose = json.loads(wherry("manifest", "inspect", "-v", f"{registry.host}/index:1", check=True).stdout)
        assert verbose[0]["OCIManifest"]["layers"]


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "tag", "text"),
        [
            ("none", "1", "manifest for {host}/none:1 not found: manifest unknown: manifest unknown"),
            ("UPPER", "1", "invalid reference format: repository name (UPPER) must be lowercase"),
        ],
    )
    def test_in_dockers_words(self, registry: Registry, engine: Engine, name: str, tag: str, text: str) -> None:
        messages = pull(engine, f"{registry.host}/{name}", tag=tag)
        assert last_error(messages) == text.format(host=registry.host)

    def test_nobody_listens(self, engine: Engine) -> None:
        port = registries.free_port()
        text = last_error(pull(engine, f"127.0.0.1:{port}/x", tag="1"))
        assert text.endswith(f"dial tcp 127.0.0.1:{port}: connect: connection refused")

    def test_push_of_nothing(self, registry: Registry, wherry: Run) -> None:
        assert "tag does not exist" in wherry("push", f"{registry.host}/nothing").stderr


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

    def test_a_users_existing_log_in_and_helper(
        self, engine: Engine, guarded: Registry, busybox: str, home: dict[str, str], tmp_path: Path
    ) -> None:
        name = f"{guarded.host}/with/helper"
        engine.wherry("tag", busybox, name, check=True)
        helper = tmp_path / "docker-credential-chest"
        helper.write_text(
            "#!/bin/sh\ncase $1 in\n"
            f"store) cat >{tmp_path}/kept;;\nerase) rm -f {tmp_path}/kept;;\n"
            f"get) cat {tmp_path}/kept 2>/dev/null || {{ echo credentials not found; exit 1; }};;\nesac\n"
        )
        helper.chmod(0o755)
        environment = {**home, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        config = Path(home["DOCKER_CONFIG"]) / "config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"credsStore": "chest", "detachKeys": "ctrl-x"}))
        engine.wherry(
            "login", "-u", USER, "--password-stdin", guarded.host, input=PASSWORD, env=environment, check=True
        )
        assert PASSWORD not in config.read_text()
        assert json.loads(config.read_text())["detachKeys"] == "ctrl-x"
        assert json.loads((tmp_path / "kept").read_text())["Username"] == USER
        engine.wherry("push", name, env=environment, check=True)
        engine.wherry("logout", guarded.host, env=environment, check=True)
        assert not (tmp_path / "kept").exists()
        engine.wherry("rmi", name, check=True)

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


class TestTls:
    """127.0.0.0/8 need not prove anything, so this registry has an address of its own, on the loopback device."""

    ADDRESS = "192.0.2.77"

    @pytest.fixture(scope="class")
    @classmethod
    def secure(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Path]]:
        if os.geteuid() != 0:
            pytest.skip("adding an address needs root")
        subprocess.run(["ip", "address", "add", f"{cls.ADDRESS}/32", "dev", "lo"], check=True)
        try:
            found, authority = registries.with_tls(tmp_path_factory.mktemp("secure"), cls.ADDRESS)
            with registries.running(found):
                yield found, authority
        finally:
            subprocess.run(["ip", "address", "delete", f"{cls.ADDRESS}/32", "dev", "lo"], check=True)

    def test_unknown_authority_and_certificates(
        self, engine: Engine, secure: tuple[Registry, Path], busybox: str, wherry: Run
    ) -> None:
        found, authority = secure
        name = f"{found.host}/safe"
        wherry("tag", busybox, name, check=True)
        refused = wherry("push", name)
        assert refused.returncode == 1
        assert "failed to verify certificate" in refused.stderr
        folder = Path("/etc/docker/certs.d") / found.host
        folder.mkdir(parents=True)
        try:
            (folder / "ca.crt").write_bytes(authority.read_bytes())
            wherry("push", name, check=True)
            wherry("pull", name, check=True)
        finally:
            (folder / "ca.crt").unlink()
            folder.rmdir()
        wherry("rmi", name, check=True)

    def test_insecure_by_name(self, secure: tuple[Registry, Path]) -> None:
        found, _ = secure
        engine = Engine(["--insecure-registry", found.host])
        try:
            engine.start()
            engine.load(CACHE / "busybox.image.tar")
            engine.wherry("tag", "busybox", f"{found.host}/any", check=True)
            engine.wherry("push", f"{found.host}/any", check=True)
        finally:
            engine.discard()


class TestSearch:
    def test_by_the_catalogue(self, registry: Registry, wherry: Run, docker: Run, busybox_tar: bytes) -> None:
        registry.put_image("harbour/lighthouse", "1", [(busybox_tar, registries.OCI_LAYER)])
        for run in (wherry, docker):
            lines = run("search", f"{registry.host}/lighthouse", check=True).stdout.splitlines()
            assert lines[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
            assert lines[1].split() == [f"{registry.host}/harbour/lighthouse", "0"]
        assert wherry("search", "--filter", "stars=1", f"{registry.host}/light", check=True).stdout.count("\n") == 1

    @pytest.mark.parametrize(("limit", "status"), [(101, 400), (100, 200)])
    def test_limit(self, engine: Engine, registry: Registry, limit: int, status: int) -> None:
        answer = engine.request("GET", f"/v1.51/images/search?term={registry.host}/x&limit={limit}")
        assert answer.status == status


class TestEmulation:
    """A program for another processor: twelve words of machine code that print a line."""

    ARM64 = struct.pack(
        "<8I",
        0xD2800020,  # mov x0, 1: standard output
        0x100000E1,  # adr x1, the text
        0xD28000C2,  # mov x2, 6: its length
        0xD2800808,  # mov x8, 64: write
        0xD4000001,  # svc 0
        0xD2800000,  # mov x0, 0
        0xD2800BA8,  # mov x8, 93: exit
        0xD4000001,  # svc 0
    )  # fmt: skip

    def program(self, machine: int, code: bytes) -> bytes:
        """A static executable of one segment."""
        base, offset = 0x400000, 120
        size = offset + len(code)
        header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
            "<HHIQQQIHHHHHH", 2, machine, 1, base + offset, 64, 0, 0, 64, 56, 1, 0, 0, 0
        )  # fmt: skip
        return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code

    def put(self, registry: Registry, architecture: str, machine: int, code: bytes) -> str:
        layer = tar_of({"hello": self.program(machine, code)})
        platform = {"architecture": architecture, "os": "linux"}
        config = {"Cmd": ["/hello"]}
        registry.put_image("emulated", architecture, [(layer, registries.OCI_LAYER)], platform=platform, config=config)
        return f"{registry.host}/emulated:{architecture}"

    def test_by_an_emulator(self, registry: Registry, wherry: Run) -> None:
        if binfmt.emulator("arm64") is None:
            pytest.skip("no emulator for arm64 is registered: install qemu-user-static and binfmt-support")
        name = self.put(registry, "arm64", 183, self.ARM64 + b"afloat")
        done = wherry("run", "--rm", "--platform", "linux/arm64", name)
        assert done.stdout == "afloat", done.stderr
        unasked = wherry("run", "--rm", name)
        assert unasked.stdout == "afloat"
        assert "does not match the detected host platform" in unasked.stderr
        wherry("rmi", name, check=True)

    def test_without_one(self, registry: Registry, wherry: Run) -> None:
        architecture, machine = "loong64", 258
        if binfmt.emulator(architecture) is not None:
            architecture, machine = "wasm", 0x4157
        name = self.put(registry, architecture, machine, bytes(32))
        done = wherry("run", "--rm", "--platform", f"linux/{architecture}", name)
        assert done.returncode != 0
        assert "exec format error" in done.stderr
        assert f"the image is for linux/{architecture}" in done.stderr
        assert "apt install qemu-user-static" in done.stderr
        wherry("rmi", name, check=True)
