"""Subordinate ids for an engine of the tests, in a mount namespace of its own: the machine's files stay as they are."""

from pathlib import Path

FIRST = 2_147_483_648
PLENTY = f"wherry:{FIRST}:1073741824\n"

_PROGRAM = """
for name in subuid subgid; do
    [ -e /etc/$name ] || : >/etc/$name
    mount --bind "$0" /etc/$name
done
exec "$@"
"""


def with_ids(directory: Path, content: str = PLENTY) -> tuple[str, ...]:
    """What to put before a daemon's command so that it finds ``content`` in /etc/subuid and /etc/subgid."""
    path = directory / "subordinate-ids"
    path.write_text(content)
    return ("unshare", "--mount", "--propagation", "slave", "sh", "-ec", _PROGRAM, str(path))
