"""Log-ins at registries, where docker keeps them: in its configuration, or with a credential helper that it names.

A helper is a program, `docker-credential-NAME`, that keeps secrets in a key ring of the system.
"""

from __future__ import annotations

import sys

from wherry.cli import terminal
from wherry.cli.session import CommandError, Session, command
from wherry.client.transport import APIError
from wherry.common import flags
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Credentials = dict[str, str]

# The key under which docker keeps the credentials of its own registry.
HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_TOKEN_NAME = "<token>"  # the name that stands for an identity token with a helper


class HelperError(Exception):
    """A credential helper could not do what it was asked for. The text has no secret in it."""


def header(config: dict[str, Any], domain: str) -> str:
    """The X-Registry-Auth header for the registry at `domain`, "" when nothing is known of it."""
    return _encoded(stored(config, key_of(domain)))


def header_of_all(config: dict[str, Any]) -> str:
    """The X-Registry-Config header: every log-in that is kept in the configuration, "" when there is none."""
    servers = {*(config.get("auths") or {}), *(config.get("credHelpers") or {})}
    found = {key_of(server): stored(config, key_of(server)) for server in servers}
    return _encoded({server: each for server, each in found.items() if each})


def _encoded(value: dict[str, Any]) -> str:
    if not value:
        return ""
    from base64 import urlsafe_b64encode

    from wherry.client.c_modules import dumps

    return urlsafe_b64encode(dumps(value)).decode()


def key_of(server: str) -> str:
    """What the log-in at a server is kept under: its name and port, without scheme and path."""
    return HUB_KEY if not server or _host(server) in _HUB_HOSTS else _host(server)


def stored(config: dict[str, Any], key: str) -> Credentials:
    """The log-in that is kept for a registry; {} when there is none."""
    helper = _helper(config, key)
    if helper:
        return _ask_helper(helper, key)
    auths: dict[str, Any] = config.get("auths") or {}
    entry = auths.get(key)
    if entry is None:
        # Older versions wrote the address with its scheme and path.
        entry = next((value for name, value in auths.items() if _host(name) == _host(key)), None)
    if not isinstance(entry, dict):
        return {}
    found: Credentials = {}
    if entry.get("auth"):
        name, password = _decode(str(entry["auth"]))
        found |= {"username": name, "password": password}
    for field in ("identitytoken", "registrytoken"):
        if entry.get(field):
            found[field] = str(entry[field])
    return {"serveraddress": key} | found if found else {}


def store(directory: str, config: dict[str, Any], credentials: Credentials) -> str:
    """Keeps a log-in. The path of the file that it stands in unencrypted, "" when a helper has it.

    Raises OSError, HelperError.
    """
    key = credentials["serveraddress"]
    helper = _helper(config, key)
    entry: dict[str, str] = {}
    if helper:
        token = credentials.get("identitytoken", "")
        secret = {
            "ServerURL": key,
            "Username": _TOKEN_NAME if token else credentials["username"],
            "Secret": token or credentials["password"],
        }
        _call_helper(helper, "store", secret)
    else:
        entry["auth"] = _encode(credentials["username"], credentials.get("password", ""))
        if credentials.get("identitytoken"):
            entry["identitytoken"] = credentials["identitytoken"]
    path = _change(directory, key, entry)
    return "" if helper else path


def forget(directory: str, config: dict[str, Any], key: str) -> None:
    """Removes a log-in. Raises OSError, HelperError."""
    helper = _helper(config, key)
    if helper:
        _call_helper(helper, "erase", key)
    _change(directory, key, None)


def _helper(config: dict[str, Any], key: str) -> str:
    return str((config.get("credHelpers") or {}).get(key) or config.get("credsStore") or "")


def _host(address: str) -> str:
    return address.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _decode(text: str) -> tuple[str, str]:
    from base64 import b64decode

    try:
        name, _, password = b64decode(text).decode("utf-8", "replace").partition(":")
    except ValueError:
        return "", ""
    return name, password.strip("\0")


def _encode(name: str, password: str) -> str:
    from base64 import b64encode

    return b64encode(f"{name}:{password}".encode()).decode()


def _change(directory: str, key: str, entry: dict[str, str] | None) -> str:
    """Keeps an entry of config.json, or removes it; the file's path."""
    from wherry.cli.session import change_config

    def alter(config: dict[str, Any]) -> None:
        auths = config.setdefault("auths", {})
        if entry is not None:
            auths[key] = entry
            return
        for name in [name for name in auths if name == key or _host(name) == _host(key)]:
            del auths[name]

    return change_config(directory, alter)


def _ask_helper(helper: str, key: str) -> Credentials:
    """`get`: the address on its input, the answer as JSON on its output."""
    from wherry.client.c_modules import loads

    try:
        found = loads(_call_helper(helper, "get", key))
    except (HelperError, ValueError):
        return {}  # it has none for this registry, which may well be public
    name, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    if name == _TOKEN_NAME:
        return {"serveraddress": key, "identitytoken": secret}
    return {"serveraddress": key, "username": name, "password": secret}


def _call_helper(helper: str, verb: str, given: str | dict[str, str]) -> bytes:
    """What a helper answers. Raises HelperError."""
    import subprocess

    from wherry.client.c_modules import dumps

    program = f"docker-credential-{helper}"
    data = given.encode() if isinstance(given, str) else dumps(given)
    try:
        return subprocess.run([program, verb], input=data, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise HelperError(f'exec: "{program}": executable file not found in $PATH') from None
    except OSError as error:
        raise HelperError(f'exec: "{program}": {(error.strerror or "").lower()}') from None
    except subprocess.CalledProcessError as error:
        said = (error.stdout or error.stderr or b"").decode("utf-8", "replace").strip()[:200]
        raise HelperError(f"{program} {verb}: {said or f'exit status {error.returncode}'}") from None


# `login` and `logout`: proves a log-in to the registry, and keeps it where docker keeps it.


@command(
    flags.string("password", "p", "Password or Personal Access Token (PAT)"),
    flags.switch("password-stdin", "", "Take the Password or Personal Access Token (PAT) from stdin"),
    flags.string("username", "u", "Username"),
    description="Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
)
def run_login(session: Session, options: Options) -> None:
    name, password = options["username"], options["password"]
    if options["password-stdin"]:
        if password:
            raise CommandError("--password and --password-stdin are mutually exclusive")
        if not name:
            raise CommandError("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().rstrip("\r\n")
        if not password:
            raise CommandError("password is empty")
    elif password:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
    server = key_of(options.arguments[0] if options.arguments else "")
    if not name and not password:
        known = stored(session.config, server)
        if known and _works(session, known):
            print("Login Succeeded")
            return
    credentials: Credentials = {"serveraddress": server} | _ask(server, name, password)
    answer = session.client.system.login(credentials)
    _keep(session, credentials, str(answer.get("IdentityToken") or ""))
    print(answer.get("Status") or "Login Succeeded")


def _works(session: Session, known: Credentials) -> bool:
    """Whether the log-in that is kept already is still good."""
    name = known.get("username")
    print("Authenticating with existing credentials..." + (f" [Username: {name}]" if name else ""))
    print(
        "\n Info -> To login with a different account, run 'wherry logout' followed by 'wherry login'\n\n", flush=True
    )
    try:
        session.client.system.login(known)
    except APIError as error:
        if error.status != 401:
            raise
        print(f"Login did not succeed, error: {error}", file=sys.stderr)
        return False
    return True


def _ask(server: str, name: str, password: str) -> Credentials:
    """Name and password, asked for where they are missing. Raises CommandError where nobody can be asked."""
    if (not name or not password) and not terminal.is_terminal(terminal.STDIN):
        raise CommandError("Error: Cannot perform an interactive login from a non TTY device")
    if not name:
        where = "Docker Hub" if server == HUB_KEY else server
        print(f"Log in to {where} with your name and your password or access token.")
        name = input("Username: ").strip()
        if not name:
            raise CommandError("Error: Non-null Username Required")
    if not password:
        from getpass import getpass

        password = getpass("Password: ")
        if not password:
            raise CommandError("Error: Password Required")
    return {"username": name, "password": password}


def _keep(session: Session, credentials: Credentials, token: str) -> None:

    if token:
        credentials = credentials | {"password": "", "identitytoken": token}
    try:
        path = store(session.config_directory, session.config, credentials)
    except (OSError, HelperError) as error:
        raise CommandError(f"Error saving credentials: {error}") from None
    if path:
        print(
            f"\nWARNING! Your credentials are stored unencrypted in '{path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n",
            file=sys.stderr,
        )


@command(description="Log out from a registry.\nIf no server is specified, the default is defined by the daemon.")
def run_logout(session: Session, options: Options) -> None:

    server = key_of(options.arguments[0] if options.arguments else "")
    print(f"Removing login credentials for {server}", flush=True)
    try:
        forget(session.config_directory, session.config, server)
    except (OSError, HelperError) as error:
        print(f"WARNING: could not erase credentials:\n{server}: {error}", file=sys.stderr)
