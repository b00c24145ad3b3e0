"""Whose ids a container gets: parsing, and cutting ranges that nobody else has."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from wherry.common.errors import Conflict, EngineError, InvalidParameter
from wherry.engine.config import EngineConfig
from wherry.engine.container import user_namespaces as module
from wherry.engine.container.store import ContainerStore
from wherry.engine.container.user_namespaces import Maps, UserNamespaces, parse_extent, parse_mode, remapped
from wherry.engine.context import Context
from wherry.linux.user_namespaces import Extent
from wherry.model.container import HostConfig, IDMappings
from wherry.storage.database import Database

BASE = 1_000_000


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both files are one, and the tests' own."""
    path = tmp_path / "subuid"
    path.write_text(f"wherry:{BASE}:300000\n")
    monkeypatch.setattr(module, "_FILES", (str(path), str(path)))
    monkeypatch.setattr("wherry.linux.user_namespaces.is_initial", lambda: True)
    return path


def namespaces(tmp_path: Path, **settings: str) -> UserNamespaces:
    entries = ContainerStore(Database(str(tmp_path / "state.db")))
    config = EngineConfig(**settings)  # type: ignore[arg-type]
    return UserNamespaces(cast(Context, SimpleNamespace(config=config, entries=entries, store=None, events=None)))


def settle(found: UserNamespaces, container_id: str, host: HostConfig) -> Maps:
    uids, gids = found.settle(container_id, host)
    return Maps(tuple(Extent(*each) for each in uids), tuple(Extent(*each) for each in gids))


def auto(found: UserNamespaces, container_id: str, mode: str = "auto") -> Maps:
    return settle(found, container_id, HostConfig(userns_mode=mode))


def test_two_containers_share_no_id(tmp_path: Path) -> None:
    found = namespaces(tmp_path)
    assert auto(found, "one").uids == (Extent(0, BASE, 65536),)
    assert auto(found, "two").uids == (Extent(0, BASE + 65536, 65536),)


def test_what_a_container_had_is_had_by_the_next(tmp_path: Path) -> None:
    found = namespaces(tmp_path)
    first = auto(found, "one")
    auto(found, "two")
    found.made("one")  # and has come to nothing
    assert auto(found, "three") == first


def test_there_is_an_end_of_ids(tmp_path: Path) -> None:
    found = namespaces(tmp_path)
    for name in ("one", "two", "three", "four"):
        auto(found, name)
    with pytest.raises(Conflict, match="no 65536 ids in a row are left"):
        auto(found, "five")
    assert auto(found, "five", "auto:size=1000").uids[0].length == 1000


def test_ids_of_somebody_else_are_left_to_them(tmp_path: Path, files: Path) -> None:
    """A file may give the same ids to two users, or those of the machine's own."""
    files.write_text(f"wherry:0:70000\nwherry:{BASE}:200000\nalice:{BASE}:100000\n")
    assert auto(namespaces(tmp_path), "one").uids == (Extent(0, BASE + 100000, 65536),)


def test_dockremaps_ids_do_where_wherry_has_none(tmp_path: Path, files: Path) -> None:
    files.write_text("alice:100000:65536\ndockremap:200000:65536\n")
    assert auto(namespaces(tmp_path), "one").uids == (Extent(0, 200000, 65536),)


def test_without_ids_it_is_said_how_to_get_some(tmp_path: Path, files: Path) -> None:
    files.write_text("alice:100000:65536\n")
    with pytest.raises(Conflict, match=r"neither wherry nor dockremap has ids.*/etc/subuid"):
        auto(namespaces(tmp_path), "one")


def test_a_mapping_can_be_fixed(tmp_path: Path) -> None:
    maps = auto(namespaces(tmp_path), "one", "auto:size=2000,uidmapping=1000:5000:10")
    assert maps.uids == (Extent(0, BASE, 1000), Extent(1000, 5000, 10), Extent(1010, BASE + 1000, 990))
    assert maps.gids == (Extent(0, BASE, 2000),)


@pytest.mark.parametrize(
    "mode",
    ["private", "auto:", "auto:size=0", "auto:size=x", "auto:sice=1", "keep-id", "auto:uidmapping=1", "automatic"],
)
def test_bad_modes(mode: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_mode(mode)


@pytest.mark.parametrize("text", ["", "1", "0:0:0", "a:0:1", "-1:0:1", "0:4294967295:1", "0:0:1:1", "0:" + "9" * 5000])
def test_bad_mappings(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid id mapping"):
        parse_extent(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["0:100000:10", "5:200000:10"], "overlap"),
        (["0:100000:10", "10:100005:10"], "overlap"),
        (["1:100000:10"], "root"),
    ],
)
def test_maps_that_make_no_sense(tmp_path: Path, given: list[str], message: str) -> None:
    host = HostConfig(id_mappings=IDMappings(uid_map=given))
    with pytest.raises(InvalidParameter, match=message):
        namespaces(tmp_path).settle("one", host)


def test_groups_are_mapped_like_users_unless_said(tmp_path: Path) -> None:
    found = namespaces(tmp_path)
    maps = settle(found, "one", HostConfig(id_mappings=IDMappings(uid_map=["0:100000:10"])))
    assert maps.gids == maps.uids == (Extent(0, 100000, 10),)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(privileged=True), "privileged mode is incompatible with user namespaces"),
        (HostConfig(network_mode="host"), "cannot share the host's network namespace"),
        (HostConfig(pid_mode="host"), "cannot share the host PID namespace"),
    ],
)
def test_what_root_of_a_user_namespace_cannot_have(tmp_path: Path, host: HostConfig, message: str) -> None:
    found = namespaces(tmp_path, default_userns_mode="auto")
    with pytest.raises(InvalidParameter, match=message):
        settle(found, "one", host)
    host.userns_mode = "host"
    assert settle(found, "one", host) == Maps()


def test_the_engines_remapping(tmp_path: Path, files: Path) -> None:
    files.write_text("dockremap:100000:65536\nwherry:500000:70000\nalice:200000:10\nalice:300000:20\n")
    assert remapped("default").uids == (Extent(0, 100000, 65536),)
    assert remapped("alice").gids == (Extent(0, 200000, 10), Extent(10, 300000, 20))
    found = namespaces(tmp_path, userns_remap="alice")
    assert settle(found, "one", HostConfig()).uids == remapped("alice").uids
    assert settle(found, "two", HostConfig(userns_mode="host")) == Maps()
    with pytest.raises(EngineError, match=r'no .* ranges found for user "bob"'):
        remapped("bob")
    with pytest.raises(EngineError, match="there is no user 4123456"):
        remapped("4123456")
