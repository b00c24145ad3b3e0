"""``cp`` and links: what a container holds never leads out of it, and never out of where a copy is put.

CVE-2018-15664 (a link swapped in while the engine resolves a path), CVE-2019-14271 (code loaded from the container).
"""

import contextlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from wherry.cli.session import CommandError
from wherry.cli.tar import Unpacker

LINKS = ("/out", "../../../../../../..", "/proc/1/root", "/proc/self/root")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host's, below a directory whose path no container has."""
    (tmp_path / "secret").write_text("the host's")
    return tmp_path / "secret"


def start(engine: Engine, busybox: str, command: str) -> str:
    return engine.wherry(
        "run", "-d", busybox, "sh", "-c", f"{command}; touch /ready; sleep 600", check=True
    ).stdout.strip()


def wait_for(engine: Engine, name: str) -> None:
    engine.wherry("exec", name, "sh", "-c", "while ! [ -e /ready ]; do sleep 0.01; done", check=True)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("link", LINKS)
def test_a_link_never_leads_to_the_host(engine: Engine, busybox: str, secret: Path, link: str, stopped: bool) -> None:
    """A hole: the answer holds the host's secret, or a file of the host's is overwritten or made."""
    where = str(secret.parent)
    target = where if link == "/out" else f"{link}{where}"
    name = start(engine, busybox, f"ln -s {target} /out; ln -s {target}/secret /file")
    wait_for(engine, name)
    if stopped:
        engine.wherry("kill", name, check=True)
    for path in ("/out/secret", "/out/", "/out/.", "/file/"):
        assert engine.request("GET", f"/containers/{name}/archive?path={path}").status in (404, 500)
    followed = engine.wherry("cp", "-L", f"{name}:/file", str(secret.parent / "copied"))
    assert followed.returncode == 1
    assert not (secret.parent / "copied").exists()
    for path in ("/out", "/out/secret", "/file"):
        engine.wherry("cp", __file__, f"{name}:{path}")
    assert secret.read_text() == "the host's"
    assert os.listdir(secret.parent) == ["secret"]


def test_a_link_in_the_archive_stays_inside(engine: Engine, busybox: str, secret: Path) -> None:
    """A hole: an archive that brings a link, and then a file below it, overwrites the host's file."""
    name = start(engine, busybox, "true")
    members: list[tuple[str, bytes, str | bytes]] = [
        ("out", tarfile.SYMTYPE, str(secret.parent)),
        ("out/secret", tarfile.REGTYPE, b"overwritten"),
        ("up", tarfile.SYMTYPE, "../../../../.." + str(secret.parent)),
        ("up/secret", tarfile.REGTYPE, b"overwritten"),
    ]
    engine.request("PUT", f"/containers/{name}/archive?path=/tmp", archive_of(members))
    assert secret.read_text() == "the host's"
    climbing = archive_of([("../../../../../../../.." + str(secret), tarfile.REGTYPE, b"overwritten")])
    assert engine.request("PUT", f"/containers/{name}/archive?path=/tmp", climbing).status == 400
    assert secret.read_text() == "the host's"


def test_a_link_that_is_swapped_all_the_time(engine: Engine, busybox: str, secret: Path) -> None:
    """The attack of CVE-2018-15664: a directory and a link to / take turns under one name."""
    where = secret.parent
    swap = f"mkdir -p /real{where}; echo inside >/real{where}/secret; while :; do ln -sfn / /a; ln -sfn /real /a; done"
    name = start(engine, busybox, f"({swap}) & true")
    wait_for(engine, name)
    for _ in range(50):
        response = engine.request("GET", f"/containers/{name}/archive?path=/a{where}/secret")
        assert b"the host's" not in (response.body if isinstance(response.body, bytes) else b"")
        engine.request(
            "PUT", f"/containers/{name}/archive?path=/a{where}", archive_of([("secret", tarfile.REGTYPE, b"x")])
        )
    assert secret.read_text() == "the host's"


def test_no_code_comes_from_the_container(engine: Engine, busybox: str, secret: Path) -> None:
    """CVE-2019-14271: after entering, the engine's process must not load what lies where its own modules are."""
    import encodings

    home = Path(encodings.__file__).parent.parent
    evil = f"import os; open('{secret}', 'w').write('overwritten')"
    name = start(
        engine, busybox, f'mkdir -p {home}/encodings; echo "{evil}" | tee {home}/pwd.py {home}/encodings/idna.py'
    )
    wait_for(engine, name)
    packed = archive_of([("grüße", tarfile.REGTYPE, b"x")])
    assert engine.request("PUT", f"/containers/{name}/archive?path=/tmp&copyUIDGID=1", packed).status == 200
    assert engine.request("GET", f"/containers/{name}/archive?path={home}").status == 200
    assert secret.read_text() == "the host's"


@pytest.mark.parametrize(
    "members",
    [
        [("top/out", tarfile.SYMTYPE, "{}"), ("top/out/secret", tarfile.REGTYPE, b"overwritten")],
        [("top/../../secret", tarfile.REGTYPE, b"overwritten")],
        [("top/file", tarfile.LNKTYPE, "../secret")],
        [("top/link", tarfile.SYMTYPE, "{}/secret"), ("top/link", tarfile.REGTYPE, b"overwritten")],
        [("top/link", tarfile.SYMTYPE, "{}"), ("top/hard", tarfile.LNKTYPE, "top/link/secret")],
    ],
)
def test_an_archive_never_leads_out_of_a_copy_s_place(secret: Path, members: Any) -> None:
    """On this side, too: the archive comes from a container."""
    place = secret.parent / "place"
    place.mkdir()
    packed = archive_of([(n, k, v.format(secret.parent) if isinstance(v, str) else v) for n, k, v in members])
    chunks = iter([memoryview(packed)])
    with contextlib.suppress(CommandError):
        Unpacker(str(place)).unpack(lambda: next(chunks, memoryview(b"")))
    assert secret.read_text() == "the host's"
    assert secret.stat().st_nlink == 1


def archive_of(members: list[tuple[str, bytes, str | bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, what in members:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if isinstance(what, str):
                entry.linkname = what
                archive.addfile(entry)
            else:
                entry.size = len(what)
                archive.addfile(entry, io.BytesIO(what))
    return packed.getvalue()
