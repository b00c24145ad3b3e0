"""Pull, push, search and run with a real registry server."""

import gzip
import json
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import zstandard

from tests.support import registry as registries
from tests.support.engine import Engine
from tests.support.faults import Fault, FaultyProxy, ScriptedRegistry
from tests.support.registry import Registry, tar_of
from tests.support.terminal import Terminal

Run = Callable[..., subprocess.CompletedProcess[str]]


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
        self, registry: Registry, busybox: str, busybox_tar: bytes, wherry: Run, kind: str
    ) -> None:
        """Also that of a layer which was here before, from an archive, and so is not fetched."""
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

    def test_what_is_there_is_not_fetched(
        self, registry: Registry, busybox: str, busybox_tar: bytes, wherry: Run
    ) -> None:
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


class TestPush:
    @pytest.mark.parametrize("client", ["docker", "wherry"])
    def test_all_tags(self, registry: Registry, engine: Engine, busybox: str, client: str) -> None:
        run: Run = getattr(engine, client)
        name = f"{registry.host}/tags/{client}"
        for tag in ("1", "2", "latest"):
            run("tag", busybox, f"{name}:{tag}", check=True)
        refused = run("push", "--all-tags", f"{name}:1")
        assert refused.returncode == 1
        assert "tag can't be used with --all-tags/-a" in refused.stderr
        pushed = run("push", "--all-tags", name, check=True).stdout
        assert pushed.count("Pushed") + pushed.count("Mounted from") == 1  # the layer is the same for all
        digests = {registry.digest(f"tags/{client}", tag) for tag in ("1", "2", "latest")}
        assert len(digests) == 1
        tags = [line.partition(": digest: ")[0] for line in pushed.splitlines() if ": digest: " in line]
        assert tags == ["1", "2", "latest"]
        run("rmi", f"{name}:1", f"{name}:2", name, check=True)

    @pytest.mark.parametrize("client", ["docker", "wherry"])
    def test_of_a_platform(self, registry: Registry, engine: Engine, busybox: str, client: str) -> None:
        run: Run = getattr(engine, client)
        name = f"{registry.host}/platform/{client}:1"
        run("tag", busybox, name, check=True)
        refused = run("push", "--platform", "linux/arm64", name)
        assert refused.returncode == 1
        assert "does not match the specified platform: wanted linux/arm64, actual: linux/amd64" in refused.stderr
        run("push", "--platform", "linux/amd64", name, check=True)
        assert registry.digest(f"platform/{client}", "1")
        run("rmi", name, check=True)


class TestProgress:
    """Three megabytes of noise, by a registry that takes its time."""

    @pytest.fixture
    def slow(self, registry: Registry, engine: Engine) -> Iterator[str]:
        tar = tar_of({"noise": random.Random(7).randbytes(3 << 20)})
        registry.put_image("slow", "1", [(tar, registries.OCI_LAYER)])
        proxy = FaultyProxy(registry.host, lambda method, path, count: Fault(drip=0.05 if "/blobs/" in path else 0))
        name = f"{proxy.host}/slow:1"
        yield name
        proxy.stop()
        engine.wherry("rmi", name, check=True)

    def test_on_a_terminal(self, slow: str, wherry_terminal: Callable[..., Terminal]) -> None:
        shown = wherry_terminal("pull", slow, columns=120)
        shown.expect(r"[0-9a-f]{12}: Downloading \[=*> *\] +[\d.]+[kM]B/3\.1\d+MB [\d.]+MB/s \ds")
        assert shown.wait() == 0
        assert re.search(r"[0-9a-f]{12}: Pull complete", shown.output)

    def test_in_a_pipe(self, slow: str, wherry: Run) -> None:
        said = wherry("pull", slow, check=True).stdout
        assert "Downloading" not in said
        assert "\x1b" not in said
        assert [line.partition(": ")[2] for line in said.splitlines()[1:-3]] == [
            "Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"
        ]  # fmt: skip


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

    @pytest.mark.parametrize("client", ["docker", "wherry"])
    def test_push_of_nothing(self, registry: Registry, engine: Engine, busybox: str, client: str) -> None:
        run: Run = getattr(engine, client)
        name = f"{registry.host}/nothing"
        assert f"An image does not exist locally with the tag: {name}" in run("push", name).stderr
        run("tag", busybox, f"{name}:1", check=True)
        assert f"tag does not exist: {name}:2" in run("push", f"{name}:2").stderr
        run("rmi", f"{name}:1", check=True)

    def test_content_trust(self, registry: Registry, engine: Engine) -> None:
        """Somebody who relies on signatures is not served without them."""
        for words in (["pull"], ["push"], ["run"], ["pull", "--disable-content-trust=false"]):
            env = {"DOCKER_CONTENT_TRUST": "1"} if len(words) == 1 else {}
            refused = engine.wherry(*words, f"{registry.host}/trusted", env=env)
            assert refused.returncode == 1, words
            assert "content trust is not supported" in refused.stderr


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

    def test_by_the_search_api(self, engine: Engine) -> None:
        """A registry that can search does it itself."""
        found = [
            {"name": "debian", "description": "A system\nfor \x1b[1mall\x1b[m", "star_count": 7, "is_official": True},
            {"name": "somebody/debian", "description": "Another", "star_count": 3, "is_official": False},
        ]
        scripted = ScriptedRegistry()
        scripted.pages["/v1/search?q=deb&n=25"] = (json.dumps({"results": found}).encode(), "application/json")
        term = f"{scripted.host}/deb"
        try:
            for run in (engine.wherry, engine.docker):
                first, second = run("search", term, check=True).stdout.splitlines()[1:]
                assert first.split() == ["debian", "A", "system", "for", "[1mall", "[m", "7", "[OK]"]
                assert second.split() == ["somebody/debian", "Another", "3"]
                names = ["search", "--format", "{{.Name}} {{.StarCount}}", "--filter"]
                assert run(*names, "is-official=false", term, check=True).stdout == "somebody/debian 3\n"
                assert run(*names, "stars=5", term, check=True).stdout == "debian 7\n"
                assert "invalid filter" in run(*names, "colour=red", term).stderr
            for form in ("json", "{{json .}}", "{{.IsOfficial}}", "{{.IsAutomated}}"):
                by_each = [run("search", "--format", form, term) for run in (engine.wherry, engine.docker)]
                assert by_each[0].stdout == by_each[1].stdout
        finally:
            scripted.stop()
