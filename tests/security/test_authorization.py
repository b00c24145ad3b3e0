"""Authorization plug-ins: what they forbid is not done, what they are told, and that nothing gets past one."""

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import programs
from tests.support.engine import CACHE, Engine, wait_until_gone
from tests.support.plugins import PluginServer

SOCKETS = Path("/run/docker/plugins")


class Plugin:
    """``judge(method, told)`` says what is answered; ``told`` is everything that it was asked."""

    def __init__(self) -> None:
        self.name = f"authz{os.getpid()}"
        self.path = SOCKETS / f"{self.name}.sock"
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.judge: Any = lambda method, told: {"Allow": True}
        SOCKETS.mkdir(parents=True, exist_ok=True)
        self._server = PluginServer(self.path, self.answer)

    def answer(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/Plugin.Activate":
            return {"Implements": ["authz"]}
        method = path.removeprefix("/AuthZPlugin.")
        self.told.append((method, body))
        return self.judge(method, body)

    def close(self) -> None:
        self._server.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    found = Plugin()
    yield found
    found.close()


@pytest.fixture
def guarded(plugin: Plugin, _images: None, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "daemon.json").write_text(json.dumps({"authorization-plugins": [plugin.name]}))
    engine = Engine(["--config-file", str(tmp_path / "daemon.json")])
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        plugin.told.clear()
        yield engine
    finally:
        engine.discard()


def decoded(told: dict[str, Any], name: str) -> Any:
    return json.loads(base64.b64decode(told[name]))


def test_what_is_allowed_works_and_what_the_plugin_is_told(guarded: Engine, plugin: Plugin) -> None:
    """A hole: a plug-in is not told what is asked, and allows what it would have forbidden."""
    done = guarded.wherry("run", "--rm", "-i", "busybox", "cat", input="ahoy\n", check=True)
    assert done.stdout == "ahoy\n"
    asked = {told["RequestUri"].partition("?")[0]: told for method, told in plugin.told if method == "AuthZReq"}
    create = next(told for path, told in asked.items() if path.endswith("/containers/create"))
    assert create["RequestMethod"] == "POST"
    assert decoded(create, "RequestBody")["Image"] == "busybox"
    assert create["RequestHeaders"]["Content-Type"] == "application/json"
    assert "User" not in create
    answered = next(told for method, told in plugin.told if method == "AuthZRes" and "create" in told["RequestUri"])
    assert answered["ResponseStatusCode"] == 201
    assert len(decoded(answered, "ResponseBody")["Id"]) == 64
    assert answered["ResponseHeaders"]["Content-Type"] == "application/json"
    assert guarded.request("GET", "/info").body["Plugins"]["Authorization"] == [plugin.name]


def test_what_is_forbidden_is_not_done(guarded: Engine, plugin: Plugin) -> None:
    """A hole: the volume is there, whatever was answered."""
    plugin.judge = lambda method, told: {"Allow": "create" not in told["RequestUri"], "Msg": "no new volumes"}
    answer = guarded.request("POST", "/volumes/create", {"Name": "hold"})
    assert answer.status == 403
    assert answer.body == {"message": f"authorization denied by plugin {plugin.name}: no new volumes"}
    assert guarded.request("GET", "/volumes").body["Volumes"] == []
    assert [method for method, told in plugin.told if "create" in told["RequestUri"]] == ["AuthZReq"]


def test_an_answer_that_is_forbidden_is_not_seen(guarded: Engine, plugin: Plugin) -> None:
    """A hole: the list is in the answer."""
    plugin.judge = lambda method, told: {"Allow": method == "AuthZReq"}
    answer = guarded.request("GET", "/images/json")
    assert answer.status == 403
    assert "busybox" not in json.dumps(answer.body)


@pytest.mark.parametrize("judgement", [{}, {"Allow": "true"}, {"Allow": False}, {"Err": "on fire"}, [], None])
def test_only_a_clear_yes_is_one(guarded: Engine, plugin: Plugin, judgement: Any) -> None:
    """A hole: an answer that is not understood is taken for a yes."""
    plugin.judge = lambda method, told: judgement
    assert guarded.request("GET", "/images/json").status in (403, 500)


def test_a_plugin_that_is_away_lets_nothing_past(guarded: Engine, plugin: Plugin) -> None:
    """A hole: to end the plug-in is to be rid of it."""
    plugin.close()
    answer = guarded.request("GET", "/images/json")
    assert (answer.status, answer.body["message"]) == (
        500, f'plugin {plugin.name} failed with error: plugin "{plugin.name}" not found',
    )  # fmt: skip
    plugin.path.touch()
    assert guarded.request("GET", "/_ping").status == 500
    assert "Traceback" not in guarded.log_text()


def test_a_body_too_long_to_be_judged_is_refused(guarded: Engine) -> None:
    """A hole (CVE-2024-41110's kind): the plug-in judges a request without its body, and the engine obeys it with it.
    A hole (CVE-2024-41110's kind): the plug-in judges a request without its body, and the engine obeys it with it."""
    answer = guarded.request("POST", "/containers/create", {"Image": "busybox", "Labels": {"x": "y" * (4 << 20)}})
    assert (answer.status, "too large for authorization plugin" in answer.body["message"]) == (500, True)


def test_a_log_in_is_not_shown(guarded: Engine, plugin: Plugin) -> None:
    """A hole: a plug-in, and its log, has the passwords of registries."""
    guarded.request("POST", "/auth", {"username": "u", "password": "secret", "serveraddress": "127.0.0.1:9"})
    guarded.request("POST", "/images/x/push", headers={"X-Registry-Auth": "secret", "Authorization": "secret"})
    assert len(plugin.told) >= 2
    assert not any(
        "RequestBody" in told or "ResponseBody" in told for _, told in plugin.told if "/auth" in told["RequestUri"]
    )
    assert not any("secret" in json.dumps(told["RequestHeaders"]) for _, told in plugin.told)


def test_http2_is_no_way_past_it(guarded: Engine) -> None:
    """Begun at once, a connection of HTTP/2 carries requests that no plug-in is asked of."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(guarded.socket))
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert client.recv(100).startswith(b"HTTP/1.")


def test_a_reload_takes_it_away_and_back(guarded: Engine, plugin: Plugin, tmp_path: Path) -> None:
    """A hole: a reload that fails leaves the engine without the plug-in."""
    plugin.judge = lambda method, told: {"Allow": False}

    def reload(names: list[str]) -> None:
        before = len(guarded.log.read_text())
        (tmp_path / "daemon.json").write_text(json.dumps({"authorization-plugins": names}))
        os.kill(guarded.pid, signal.SIGHUP)
        assert not wait_until_gone(lambda: "reloaded" not in guarded.log.read_text()[before:])

    assert guarded.request("GET", "/images/json").status == 403
    reload(["nowhere"])  # which is not there, so all is as before
    assert guarded.request("GET", "/images/json").status == 403
    reload([])
    assert guarded.request("GET", "/images/json").status == 200
    reload([plugin.name])
    assert guarded.request("GET", "/images/json").status == 403


def test_an_engine_does_not_start_without_its_plugin(tmp_path: Path) -> None:
    """A hole: it starts, and asks nobody."""
    engine = Engine(["--authorization-plugin", "nowhere"])
    try:
        with pytest.raises(AssertionError, match='authorization plugin: plugin "nowhere" not found'):
            engine.start()
    finally:
        engine.discard()


def test_who_asks_is_known_by_a_certificate(plugin: Plugin, tmp_path: Path) -> None:
    """A hole: a client is taken for another, or for one without a name."""
    if programs.find("openssl") is None:
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/O=crew/CN=boatswain", "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    files = [f"--tlscacert={certificate}", f"--tlscert={certificate}", f"--tlskey={key}"]
    engine = Engine(["-H", f"tcp://127.0.0.1:{port}", "--tlsverify", *files, "--authorization-plugin", plugin.name])
    try:
        engine.start()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        connection.request("GET", "/images/json")
        assert connection.getresponse().status == 200
        told = plugin.told[-1][1]
        assert (told["User"], told["UserAuthNMethod"]) == ("boatswain", "TLS")
        [pem] = told["RequestPeerCertificates"]
        assert base64.b64decode(pem).strip() == certificate.read_bytes().strip()
        engine.request("GET", "/images/json")
        assert "User" not in plugin.told[-1][1]
        engine.stop()
    finally:
        engine.discard()
