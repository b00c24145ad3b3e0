"""`login` and `logout`: proves a log-in to the registry, and keeps it where docker keeps it."""

from __future__ import annotations

import sys

from wherry.cli import flags, terminal
from wherry.cli.auth import HUB_KEY, key_of, stored
from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options
from wherry.client.errors import APIError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.auth import Credentials


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
    answer = session.client.post("/auth", credentials) or {}
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
        session.client.post("/auth", known)
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
    from wherry.cli.auth import HelperError, store

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
    from wherry.cli.auth import HelperError, forget

    server = key_of(options.arguments[0] if options.arguments else "")
    print(f"Removing login credentials for {server}", flush=True)
    try:
        forget(session.config_directory, session.config, server)
    except (OSError, HelperError) as error:
        print(f"WARNING: could not erase credentials:\n{server}: {error}", file=sys.stderr)
