# ruff: noqa: ASYNC221, ASYNC230  # a test waits for what it does to files and processes
"""What containers change: diff, size, commit; on real overlay mounts."""

import os
import shutil
import stat
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support import tars
from tests.support.disk import Disk, everything, look
from tests.support.tars import member

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts need root")
D, S = tarfile.DIRTYPE, tarfile.SYMTYPE


CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective and permitted


async def test_what_is_packed_and_unpacked_is_the_same(disk: Disk) -> None:
    await disk.image()
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    upper = disk.root / "containers" / "c1" / "diff"
    subprocess.run(["tar", "-x", "-C", upper], input=tars.make(*everything()), check=True)
    os.setxattr(upper / "bin" / "ping", "security.capability", CAPABILITY)
    os.setxattr(upper / "home", "user.note", b"a directory's")
    with open(upper / "sparse", "wb") as file:
        file.truncate(3_000_000)
        file.seek(1_000_000)
        file.write(b"data")
    os.utime(upper, (1, 1))
    layer = await disk.store.snapshots.commit("c1")
    found, expected = look(Path(disk.store.layers.path(layer.chain_id))), look(upper)
    assert found.pop(".")[:4] == expected.pop(".")[:4]
    assert found == expected
    again = await disk.store.snapshots.commit("c1")
    assert again == layer, "the same tree gives the same tar"


async def test_a_commit_carries_what_was_deleted(disk: Disk) -> None:
    await disk.image(
        member("kept/file", data=b"1"), member("gone/file", data=b"2"), member("replaced/old", data=b"3"),
        member("file", data=b"4"), member("kept/inner/x", data=b"5"),
    )  # fmt: skip
    snapshots = disk.store.snapshots
    snapshots.create("c1", disk.store.images.get("app").chain_id)
    with disk.mounted("c1") as root:
        shutil.rmtree(root / "gone")
        shutil.rmtree(root / "replaced")
        (root / "replaced").mkdir()
        (root / "replaced" / "new").write_text("new")
        (root / "file").unlink()
        shutil.rmtree(root / "kept" / "inner")
        (root / "kept" / "inner").symlink_to("file")
        expected = look(root)
    layer = await snapshots.commit("c1")
    snapshots.create("c2", layer.chain_id)
    with disk.mounted("c2") as root:
        found = look(root)
    assert {name: facts[0] for name, facts in found.items()} == {name: facts[0] for name, facts in expected.items()}
    assert [facts[5] for facts in found.values()] == [facts[5] for facts in expected.values()]


async def test_diff_is_docker_s(disk: Disk) -> None:
    """The cases and the answers were taken from Docker 20.10, which compares the two trees."""
    await disk.image(
        member("etc", D), member("etc/a", data=b"a"), member("etc/sub", D), member("etc/sub/b", data=b"b"),
        member("d1", D), member("d1/d2", D), member("d1/d2/c", data=b"c"), member("op", D), member("op/o", data=b"o"),
        member("rmdir", D), member("rmdir/x", D), member("f", data=b"root"), member("same", data=b"same"),
        member("n1-", D),
    )  # fmt: skip
    snapshots = disk.store.snapshots
    snapshots.create("c1", disk.store.images.get("app").chain_id)
    assert snapshots.changes("c1") == []
    with disk.mounted("c1") as root:
        (root / "etc" / "sub" / "b").write_text("changed")
        os.utime(root / "d1" / "d2" / "c")
        shutil.rmtree(root / "op")
        (root / "op").mkdir()
        (root / "op" / "n").write_text("n")
        shutil.rmtree(root / "rmdir")
        (root / "etc" / "new").write_text("new")
        (root / "f").unlink()
        (root / "f").mkdir()
        (root / "n1" / "n2").mkdir(parents=True)
        (root / "n1" / "n2" / "x").touch()
        os.close(os.open(root / "same", os.O_WRONLY))  # copied up, and nothing else
        (root / "brief").touch()
        (root / "brief").unlink()
    assert snapshots.changes("c1") == [
        (0, "/d1"), (0, "/d1/d2"), (0, "/d1/d2/c"),
        (0, "/etc"), (1, "/etc/new"), (0, "/etc/sub"), (0, "/etc/sub/b"),
        (0, "/f"),
        (1, "/n1"), (1, "/n1/n2"), (1, "/n1/n2/x"),
        (0, "/op"), (1, "/op/n"), (2, "/op/o"),
        (2, "/rmdir"),
    ]  # fmt: skip


async def test_diff_through_several_layers(disk: Disk) -> None:
    await disk.image(member("a/one", data=b"1"), member("b/old", data=b"1"), member("c/x/y", data=b"1"))
    snapshots = disk.store.snapshots
    snapshots.create("c1", disk.store.images.get("app").chain_id)
    with disk.mounted("c1") as root:
        (root / "a" / "one").unlink()
        (root / "a" / "two").write_text("2")
        shutil.rmtree(root / "b")
        (root / "b").mkdir()
        (root / "b" / "new").touch()
    layer = await snapshots.commit("c1")
    snapshots.create("c2", layer.chain_id)
    with disk.mounted("c2") as root:
        (root / "a" / "one").write_text("again")
        (root / "b" / "old").touch()
        shutil.rmtree(root / "c" / "x")
        (root / "c" / "x").mkdir()
        os.chmod(root / "b" / "new", 0o600)
    assert snapshots.changes("c2") == [
        (0, "/a"), (1, "/a/one"), (0, "/b"), (0, "/b/new"), (1, "/b/old"), (0, "/c"), (0, "/c/x"), (2, "/c/x/y"),
    ]  # fmt: skip


async def test_the_size_of_a_snapshot(disk: Disk) -> None:
    await disk.image(member("a", data=b"x" * 1000))
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    assert disk.store.snapshots.size("c1") == 0
    with disk.mounted("c1") as root:
        (root / "new").write_bytes(b"x" * 500)
        os.link(root / "new", root / "second")
        with open(root / "sparse", "wb") as file:
            file.truncate(10_000)
    assert disk.store.snapshots.size("c1") == 10_500


async def test_the_root_directory_is_everybody_s_to_enter(disk: Disk) -> None:
    """Whatever the image's archive says of it."""
    await disk.image(member("./", D, mode=0o750, uid=1, gid=2), member("a"))
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    with disk.mounted("c1") as root:
        facts = root.stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o755, 0, 0)


async def test_what_was_mounted_without_waiting_for_the_disk_can_be_mounted_again(disk: Disk) -> None:
    disk.store.snapshots.create("c", None)
    for volatile in (True, False, True, True):
        with disk.mounted("c", volatile=volatile) as root:
            (root / "file").write_text(f"{volatile}")
    with disk.mounted("c") as root:
        assert (root / "file").read_text() == "True"
