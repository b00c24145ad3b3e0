import base64
import json
from pathlib import Path
from typing import Any

import pytest

from wherry.cli.auth import HUB_KEY, header


def decoded(config: dict[str, Any], domain: str) -> Any:
    text = header(config, domain)
    return json.loads(base64.urlsafe_b64decode(text)) if text else None


SECRET = base64.b64encode(b"me:pass:word").decode()


@pytest.mark.parametrize(
    ("key", "domain"),
    [("host:5000", "host:5000"), ("https://host:5000/v1/", "host:5000"), (HUB_KEY, "docker.io")],
)
def test_in_the_configuration(key: str, domain: str) -> None:
    found = decoded({"auths": {"other": {}, key: {"auth": SECRET}}}, domain)
    assert (found["username"], found["password"]) == ("me", "pass:word")


def test_nothing_is_known() -> None:
    assert header({}, "docker.io") == ""
    assert header({"auths": {"other": {"auth": SECRET}}}, "docker.io") == ""


def test_a_token() -> None:
    assert decoded({"auths": {"host": {"identitytoken": "t"}}}, "host") == {
        "serveraddress": "host",
        "identitytoken": "t",
    }


def test_a_credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "docker-credential-test"
    script.write_text('#!/bin/sh\nread key\n[ "$1 $key" = "get host" ] && echo \'{"Username": "me", "Secret": "s"}\'\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert decoded({"credsStore": "test"}, "host") == {"serveraddress": "host", "username": "me", "password": "s"}
    assert header({"credHelpers": {"host": "missing"}}, "host") == ""
    assert header({"credsStore": "test"}, "unknown") == ""
