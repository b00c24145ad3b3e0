"""The ways to a registry: TLS with certificates, insecure ones, mirrors of Docker Hub, proxies, IPv6."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import registry as registries
from tests.support.engine import Engine, started
from tests.support.faults import HARMLESS, FaultyProxy
from tests.support.proxy import Proxy
from tests.support.registry import Registry

pytestmark = pytest.mark.skipif(
    not registries.installed(), reason="needs Debian's packages docker-registry and openssl"
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def own_engine(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Engine]:
    """An engine with these arguments; busybox is loaded."""
    with started(Engine(arguments, environment or {})) as engine:
        yield engine


class TestIPv6:
    def test_ipv6(self, tmp_path: Path, busybox: str, wherry: Run) -> None:
        with registries.running(Registry(tmp_path, address="::1")) as found:
            wherry("tag", busybox, f"{found.host}/six", check=True)
            wherry("push", f"{found.host}/six", check=True)
            assert "up to date" in wherry("pull", f"{found.host}/six", check=True).stdout
            wherry("rmi", f"{found.host}/six", check=True)


class TestTls:
    """127.0.0.0/8 need not prove anything, so this registry has an address of its own, on the loopback device."""

    ADDRESS = "192.0.2.77"

    @pytest.fixture(scope="class")
    @classmethod
    def secure(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Path]]:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("adding an address needs root, and Debian's package iproute2")
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
        with own_engine("--insecure-registry", found.host) as engine:
            engine.wherry("tag", "busybox", f"{found.host}/any", check=True)
            engine.wherry("push", f"{found.host}/any", check=True)

    def test_insecure_by_network_and_for_one_command(
        self, secure: tuple[Registry, Path], busybox_tar: bytes, wherry: Run
    ) -> None:
        found, _ = secure
        found.put_image("networked", "1", [(busybox_tar, registries.OCI_LAYER)])
        name = f"{found.host}/networked:1"
        assert "failed to verify certificate" in wherry("manifest", "inspect", name).stderr
        assert "layers" in json.loads(wherry("manifest", "inspect", "--insecure", name, check=True).stdout)
        with own_engine("--insecure-registry", f"{self.ADDRESS}/24") as engine:
            engine.wherry("pull", name, check=True)

    def test_certificate_of_the_client(
        self, tmp_path: Path, secure: tuple[Registry, Path], busybox: str, wherry: Run
    ) -> None:
        found, authority = registries.with_tls(tmp_path / "strict", self.ADDRESS, wants_certificates=True)
        name = f"{found.host}/strict"
        wherry("tag", busybox, name, check=True)
        folder = Path("/etc/docker/certs.d") / found.host
        folder.mkdir(parents=True)
        try:
            (folder / "ca.crt").write_bytes(authority.read_bytes())
            refused = wherry("push", name).stderr.strip()
            assert refused.endswith(("remote error: tls: bad certificate", "remote error: tls: certificate required"))
            (folder / "client.cert").write_bytes(authority.with_name("server.pem").read_bytes())
            (folder / "client.key").write_bytes(authority.with_name("server.key").read_bytes())
            wherry("push", name, check=True)
        finally:
            for each in folder.iterdir():
                each.unlink()
            folder.rmdir()
            found.stop()
            wherry("rmi", name, check=True)


class TestMirrors:
    def test_in_their_order(self, registry: Registry, tmp_path: Path, busybox_tar: bytes) -> None:
        """The first cannot be reached, the second does not have it, the third does. None is shown a log-in."""
        made = registry.put_image("library/mirrored", "1", [(busybox_tar, registries.OCI_LAYER)])
        proxy = FaultyProxy(registry.host, lambda *_: HARMLESS)
        with registries.running(Registry(tmp_path / "empty")) as empty:
            mirrors = [f"http://127.0.0.1:{registries.free_port()}", f"http://{empty.host}", f"http://{proxy.host}/"]
            with own_engine(*(f"--registry-mirror={mirror}" for mirror in mirrors)) as engine:
                known = engine.request("GET", "/v1.51/info").body["RegistryConfig"]["Mirrors"]
                assert known == [mirror.rstrip("/") for mirror in mirrors]
                home = {"DOCKER_CONFIG": str(tmp_path / "docker")}
                (tmp_path / "docker").mkdir()
                log_in = {"auths": {"https://index.docker.io/v1/": {"auth": "Y2FwdGFpbjpzM2NyZXQ="}}}
                (tmp_path / "docker" / "config.json").write_text(json.dumps(log_in))
                engine.wherry("pull", "mirrored:1", env=home, check=True)
                assert "Image is up to date" in engine.wherry("pull", "--all-tags", "mirrored", env=home).stdout
                assert engine.wherry("run", "--rm", "mirrored:1", "/bin/sh", "-c", "echo aboard").stdout == "aboard\n"
                digests = engine.wherry("inspect", "--format", "{{json .RepoDigests}}", "mirrored:1").stdout
                assert json.loads(digests) == [f"mirrored@{made['digest']}"]
                assert proxy.requests
                assert not [headers for _, _, headers in proxy.requests if "authorization" in headers]
        proxy.stop()

    def test_other_registries_have_none(self, registry: Registry, busybox_tar: bytes) -> None:
        registry.put_image("unmirrored", "1", [(busybox_tar, registries.OCI_LAYER)])
        proxy = FaultyProxy(registry.host, lambda *_: HARMLESS)
        with own_engine(f"--registry-mirror=http://{proxy.host}") as engine:
            engine.wherry("pull", f"{registry.host}/unmirrored:1", check=True)
        assert proxy.requests == []
        proxy.stop()


class TestProxies:
    """By names that only the proxy can find, so that nothing gets there without it."""

    LOG_IN = "steward:let-me-pass"

    @pytest.fixture
    def proxy(self, registry: Registry, tmp_path: Path) -> Iterator[Proxy]:
        encrypted, _ = registries.with_tls(tmp_path / "encrypted")
        hosts = {"plain.test:80": registry.host, "encrypted.test:443": encrypted.host}
        found = Proxy(hosts, self.LOG_IN)
        yield found
        found.stop()
        encrypted.stop()

    @pytest.mark.parametrize("way", ["environment", "flags"])
    def test_both(self, proxy: Proxy, way: str) -> None:
        address = f"http://{self.LOG_IN}@{proxy.host}"
        insecure = ["--insecure-registry=plain.test", "--insecure-registry=encrypted.test"]
        environment = {"HTTP_PROXY": address, "https_proxy": address, "NO_PROXY": "other.test"}
        if way == "flags":  # which are stronger
            insecure += [f"--http-proxy={address}", f"--https-proxy={address}", "--no-proxy=other.test"]
            environment = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "*"}
        with own_engine(*insecure, environment=environment) as engine:
            for domain in ("plain.test", "encrypted.test"):
                engine.wherry("tag", "busybox", f"{domain}/by/proxy", check=True)
                engine.wherry("push", f"{domain}/by/proxy", check=True)
                assert "up to date" in engine.wherry("pull", f"{domain}/by/proxy", check=True).stdout
            shown = engine.request("GET", "/v1.51/info").body
            assert shown["HttpProxy"] == shown["HttpsProxy"] == f"http://xxxxx:xxxxx@{proxy.host}"
            assert shown["NoProxy"] == "other.test"
            assert "let-me-pass" not in engine.log_text()
        assert ("PUT", "plain.test:80") in proxy.asked
        assert ("CONNECT", "encrypted.test:443") in proxy.asked

    @pytest.mark.parametrize("way", ["environment", "flags"])
    def test_none(self, registry: Registry, proxy: Proxy, busybox_tar: bytes, way: str) -> None:
        """The machine itself, and what NO_PROXY names, is reached directly."""
        registry.put_image("direct", "1", [(busybox_tar, registries.OCI_LAYER)])
        address = f"http://{self.LOG_IN}@{proxy.host}"
        environment = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "NO_PROXY": ".test,plain.test"}
        flags = ["--insecure-registry=plain.test"]
        if way == "flags":
            flags += [f"--{name.lower().replace('_', '-')}={value}" for name, value in environment.items()]
            environment = {}
        with own_engine(*flags, environment=environment) as engine:
            engine.wherry("pull", f"{registry.host}/direct:1", check=True)
            refused = engine.wherry("pull", "plain.test/direct:1")
            assert "lookup plain.test: no such host" in refused.stderr
        assert proxy.asked == []

    @pytest.mark.parametrize("log_in", ["", "steward:wrong@"])
    def test_refused(self, proxy: Proxy, log_in: str) -> None:
        environment = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://{log_in}{proxy.host}")
        with own_engine(environment=environment) as engine:
            refused = engine.wherry("pull", "encrypted.test/x")
            assert refused.returncode == 1
            assert "proxyconnect tcp: the proxy answered 407" in refused.stderr
            assert "wrong" not in refused.stderr + engine.log_text()

    def test_nobody_there(self) -> None:
        environment = {"HTTPS_PROXY": f"http://127.0.0.1:{registries.free_port()}"}
        with own_engine(environment=environment) as engine:
            refused = engine.wherry("pull", "encrypted.test/x")
            assert "proxyconnect tcp: connection refused" in refused.stderr
