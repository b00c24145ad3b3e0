"""Secrets and ssh agents: what a build may see and no image may keep. They go to the engine in their own request."""

from __future__ import annotations

import binascii
import os

from wherry.cli.command import CommandError
from wherry.cli.output_file import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.client import Client

_LARGEST = 500 << 10  # bytes of a secret, as in BuildKit


def hand_over(client: Client, secrets: list[str], ssh: list[str], allow: list[str]) -> str:
    """The word that the build's request names it by; "" when there is nothing. Raises CommandError."""
    if not (secrets or ssh or allow):
        return ""
    body = {
        "secrets": dict(_secret(text) for text in secrets),
        "ssh": dict(_agent(text) for text in ssh),
        "allow": allow,
    }
    answer = client.post("/build/given", body)
    return str(answer["Id"])


def _secret(text: str) -> tuple[str, str]:
    """`id=name,src=path` or `id=name,env=VARIABLE`; with the id alone the variable or the file of that name."""
    fields = {}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            raise CommandError(f"invalid field '{field}' must be a key=value pair")
        fields[{"source": "src"}.get(key.lower(), key.lower())] = value
    unknown = set(fields) - {"id", "src", "env", "type"}
    if unknown:
        raise CommandError(f"unexpected key '{min(unknown)}' in '{text}'")
    kind, path, variable = fields.get("type", ""), fields.get("src", ""), fields.get("env", "")
    if kind not in ("", "file", "env"):
        raise CommandError(f'unsupported secret type "{kind}"')
    if kind == "env" and path:
        path, variable = "", path
    name = fields.get("id") or os.path.basename(path) or variable
    if not name:
        raise CommandError(f"a secret has no id: {text}")
    if not path and not variable:
        path, variable = ("", name) if name in os.environ else (name, "")
    content = os.environb.get(os.fsencode(variable)) if variable else _read(path)
    if content is None:
        raise CommandError(f"secret {name}: the environment has no variable {variable}")
    if len(content) > _LARGEST:
        raise CommandError(f"invalid secret size {len(content)}: at most {_LARGEST} bytes")
    return name, binascii.b2a_base64(content, newline=False).decode()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        raise CommandError(f"failed to stat {path}: {reason(error)}") from None


def _agent(text: str) -> tuple[str, str]:
    """`default` or `id=socket`."""
    name, _, path = text.partition("=")
    path = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise CommandError(f"invalid empty ssh agent socket: SSH_AUTH_SOCK is not set, for --ssh {text}")
    path = os.path.realpath(path)
    if not os.path.exists(path):
        raise CommandError(f"--ssh {text}: {path} is not there")
    if os.path.isfile(path):
        raise CommandError(f"--ssh {text}: {path} is a key: add it to an agent with ssh-add, and give the agent")
    return name, path
