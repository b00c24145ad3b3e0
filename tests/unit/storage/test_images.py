"""Images without a worker: layers are laid out by hand, so that what is tested is names, ids, rules and rows."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.laid_images import lay_image, lay_layer
from wherry.common import reference
from wherry.common.errors import Conflict, InvalidParameter, NotFound
from wherry.model.image import Descriptor, History, ImageConfig, RootFS
from wherry.storage import image_removal
from wherry.storage import layers as layers_module
from wherry.storage.database import Database
from wherry.storage.layers import Layer
from wherry.storage.store import Store
from wherry.storage.tar.compression import MEDIA_TYPES


class Disk:
    """A store, and the means to make images of nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open()

    def open(self) -> None:
        self.database = Database(str(self.root / "state.db"))
        self.store = Store.open(str(self.root), self.database)

    def close(self) -> None:
        self.store.close()
        self.database.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    def layer(self, name: str, parent: str = "", size: int = 10) -> Layer:
        return lay_layer(self.store, name, parent, size)

    def image(self, *layer_names: str, parent: str = "", tag: str = "", **fields: Any) -> str:
        return lay_image(self.store, *layer_names, parent=parent, tag=tag, **fields)

    def remove(self, name: str, *, users: dict[str, bool] | None = None, **options: bool) -> list[dict[str, str]]:
        options = {"force": False, "prune": True} | options
        return image_removal.remove(self.store.images, name, users=lambda image_id: (users or {}).items(), **options)

    def folders(self) -> int:
        return len(os.listdir(self.root / "layers"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path)
    yield found
    found.close()


def test_finds_by_name_id_and_prefix(disk: Disk) -> None:
    image_id = disk.image("a", tag="app:1")
    images = disk.store.images
    for name in ("app:1", "docker.io/library/app:1", image_id, image_id[7:], image_id[7:19], image_id[:19]):
        assert images.get(name).id == image_id
    assert images.get("app:1").size == 10
    assert images.find(image_id) is not None
    assert images.find("sha256:" + "0" * 64) is None


def test_the_builds_that_made_an_image_go_with_it(disk: Disk) -> None:
    image_id = disk.image("a", tag="app:1")
    for number in range(20):
        disk.store.images.note_build(image_id, f"ref-{number:02}", 1000 + number)
    disk.store.images.note_build("sha256:" + "0" * 64, "gone", 1)
    disk.reopen()
    builds = disk.store.images.builds(image_id)
    assert builds == [(f"ref-{number:02}", 1000 + number) for number in range(4, 20)]
    disk.remove("app:1")
    assert disk.store.images.builds(image_id) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "No such image: nothing:latest"),
        ("app", "No such image: app:latest"),
        ("registry.example/nothing:1", "No such image: registry.example/nothing:1"),
        ("0" * 64, "No such image: sha256:" + "0" * 64),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ("app@sha256:" + "0" * 64, "No such image: app@sha256:" + "0" * 64),
        ("000000000000", "No such image: 000000000000:latest"),
    ],
)
def test_says_what_is_not_there(disk: Disk, name: str, message: str) -> None:
    disk.image("a", tag="app:1")
    with pytest.raises(NotFound) as found:
        disk.store.images.get(name)
    assert found.value.message == message


def test_an_ambiguous_prefix(disk: Disk) -> None:
    ids: dict[str, str] = {}
    for number in range(40):  # two ids out of seventeen begin with the same digit
        image_id = disk.image("a", comment=str(number))
        if image_id[7] in ids:
            break
        ids[image_id[7]] = image_id
    prefix = image_id[7]
    with pytest.raises(InvalidParameter, match="ambiguous"):
        disk.store.images.get(prefix)


def test_an_image_is_the_digest_of_its_bytes(disk: Disk) -> None:
    layer = disk.layer("a")
    raw = b'{ "rootfs": {"type":"layers","diff_ids":["%s"]}, "os":"linux","unknown":[1] }' % layer.diff_id.encode()
    image_id = disk.store.images.add(raw)
    assert image_id == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert disk.store.images.raw(image_id) == raw
    assert disk.store.images.add(raw) == image_id
    assert disk.store.images.count() == 1


def test_an_image_needs_its_layers(disk: Disk) -> None:
    config = ImageConfig(rootfs=RootFS(diff_ids=["sha256:" + "0" * 64]))
    with pytest.raises(NotFound):
        disk.store.images.create(config)
    assert disk.store.images.count() == 0


def test_tagging_moves_a_name(disk: Disk) -> None:
    images = disk.store.images
    first, second = disk.image("a", tag="app"), disk.image("b")
    assert images.tag(second, reference.parse_to_tag("app")) == first
    assert images.tag(second, reference.parse_to_tag("app")) is None
    assert images.get("app").id == second
    assert images.get("app").tagged > 0
    assert images.names(first) == []
    with pytest.raises(NotFound):
        images.tag("sha256:" + "0" * 64, reference.parse_to_tag("x"))


def test_summaries(disk: Disk) -> None:
    base = disk.image("a", tag="base:1", created="2020-01-01T00:00:00Z")
    child = disk.image("a", "b", parent=base, tag="child", created="2021-01-01T00:00:00.123456789Z")
    loose = disk.image("c")
    found = {summary.image.id: summary for summary in disk.store.images.summaries(shared=True)}
    assert disk.store.images.summaries()[0].image.id == child
    assert found[base].tags == ["base:1"]
    assert (found[base].children, found[base].dangling, found[base].shared_size) == ([child], False, 10)
    assert (found[child].image.size, found[child].shared_size) == (20, 10)
    assert (found[loose].dangling, found[loose].shared_size) == (True, 0)
    assert found[loose].image.created == -62135596800, "Go's zero time"
    assert disk.store.images.summaries()[0].shared_size == -1
    assert disk.store.images.descendants("base:1") == {base, child}


def test_what_was_made_of_an_image_elsewhere_is_known_by_its_history(disk: Disk) -> None:
    steps = [
        History(created_by="FROM nothing"),
        History(created_by="RUN b"),
        History(created_by="CMD c", empty_layer=True),
    ]
    base = disk.image("a", history=steps[:1])
    disk.image("a", history=steps[1:2])
    other = disk.image("a", "b", history=[steps[1], steps[2]])
    child = disk.image("a", "b", history=steps[:2])
    grandchild = disk.image("a", "b", history=steps)
    squashed = disk.image("c", parent=child)
    assert disk.store.images.descendants(base) == {base, child, grandchild, squashed}
    assert disk.store.images.descendants(child) == {child, grandchild, squashed}
    assert disk.store.images.descendants(other) == {other}
    assert disk.store.images.descendants(disk.image(history=[])) == {disk.image(history=[])}


def test_history(disk: Disk) -> None:
    steps = [
        History(created="2020-01-01T00:00:00Z", created_by="ADD file", comment="first"),
        History(created="2020-01-02T00:00:00Z", created_by="CMD", empty_layer=True),
    ]
    base = disk.image("a", tag="base", history=steps)
    more = [History(created_by="RUN x"), History(created_by="ENV y", empty_layer=True)]
    child = disk.image("a", "b", parent=base, tag="child", history=[*steps, *more])
    found = disk.store.images.history("child")
    assert [(step["Id"], step["CreatedBy"], step["Size"], step["Tags"]) for step in found] == [
        (child, "ENV y", 0, ["child:latest"]),
        ("<missing>", "RUN x", 10, None),
        (base, "CMD", 0, ["base:latest"]),
        ("<missing>", "ADD file", 10, None),
    ]
    assert found[3]["Created"] == 1577836800


class TestRemoving:
    def test_the_last_name_takes_the_image_along(self, disk: Disk) -> None:
        image_id = disk.image("a", "b", tag="app:1")
        chain = [layer.chain_id for layer in disk.store.images.layers(disk.store.images.get("app:1"))]
        assert disk.remove("app:1") == [
            {"Untagged": "app:1"},
            {"Deleted": image_id},
            {"Deleted": chain[1]},
            {"Deleted": chain[0]},
        ]
        assert disk.folders() == 0
        assert list(disk.store.blobs) == []

    def test_another_name_keeps_it(self, disk: Disk) -> None:
        image_id = disk.image("a", tag="app:1")
        disk.store.images.tag(image_id, reference.parse_to_tag("other"))
        assert disk.remove("app:1") == [{"Untagged": "app:1"}]
        assert disk.store.images.get("other").id == image_id

    def test_by_id_with_one_name(self, disk: Disk) -> None:
        image_id = disk.image("a", tag="app:1")
        assert disk.remove(image_id[7:19])[:2] == [{"Untagged": "app:1"}, {"Deleted": image_id}]

    def test_by_id_with_several_names(self, disk: Disk) -> None:
        image_id = disk.image("a", tag="app:1")
        disk.store.images.tag(image_id, reference.parse_to_tag("other"))
        short = image_id[7:19]
        with pytest.raises(Conflict) as found:
            disk.remove(image_id)
        assert found.value.message == (
            f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
        assert [item for item in disk.remove(image_id, force=True) if "Untagged" in item] == [
            {"Untagged": "app:1"},
            {"Untagged": "other:latest"},
        ]

    def test_the_digests_of_a_repository_go_with_its_last_tag(self, disk: Disk) -> None:
        image_id = disk.image("a", tag="app:1")
        digest = "sha256:" + "1" * 64
        disk.store.images.tag(image_id, reference.parse(f"app@{digest}"))
        assert disk.store.images.get(f"app@{digest}").id == image_id
        assert disk.remove("app:1")[:3] == [
            {"Untagged": "app:1"},
            {"Untagged": f"app@{digest}"},
            {"Deleted": image_id},
        ]

    @pytest.mark.parametrize("running", [True, False])
    def test_a_name_that_a_container_uses(self, disk: Disk, running: bool) -> None:
        image_id = disk.image("a", tag="app:1")
        users = {"c" * 64: running}
        with pytest.raises(Conflict) as found:
            disk.remove("app:1", users=users)
        assert found.value.message == (
            'conflict: unable to remove repository reference "app:1" (must force) - '
            f"container {'c' * 12} is using its referenced image {image_id[7:19]}"
        )
        removed = disk.remove("app:1", users=users, force=True)
        assert removed[0] == {"Untagged": "app:1"}
        assert ({"Deleted": image_id} in removed) is not running
        assert bool(disk.store.images.find(image_id)) is running

    @pytest.mark.parametrize(
        ("running", "message"),
        [
            (True, r"\(cannot be forced\) - image is being used by running container c{12}$"),
            (False, r"\(must be forced\) - image is being used by stopped container c{12}$"),
        ],
    )
    def test_an_id_that_a_container_uses(self, disk: Disk, running: bool, message: str) -> None:
        image_id = disk.image("a", tag="app:1")
        with pytest.raises(Conflict, match=message):
            disk.remove(image_id, users={"c" * 64: running})
        assert disk.store.images.get("app:1").id == image_id

    def test_an_image_with_children(self, disk: Disk) -> None:
        base = disk.image("a")
        disk.image("a", "b", parent=base, tag="child")
        with pytest.raises(Conflict, match=r"\(cannot be forced\) - image has dependent child images$"):
            disk.remove(base, force=True)
        disk.store.images.tag(base, reference.parse_to_tag("base"))
        assert disk.remove("base") == [{"Untagged": "base:latest"}]

    def test_unnamed_parents_go_too(self, disk: Disk) -> None:
        base = disk.image("a", tag="base")
        middle = disk.image("a", "b", parent=base)
        top = disk.image("a", "b", "c", parent=middle, tag="top")
        deleted = [item["Deleted"] for item in disk.remove("top") if "Deleted" in item]
        assert [image_id for image_id in deleted if image_id in (base, middle, top)] == [top, middle]
        assert disk.store.images.get("base").id == base

    def test_unless_they_are_to_be_kept(self, disk: Disk) -> None:
        middle = disk.image("a")
        disk.image("a", "b", parent=middle, tag="top")
        disk.remove("top", prune=False)
        assert disk.store.images.get(middle).id == middle

    def test_a_layer_stays_for_who_else_stands_on_it(self, disk: Disk) -> None:
        disk.image("a", "b", tag="one")
        disk.image("a", "c", tag="two")
        disk.remove("one")
        assert disk.folders() == 2
        image = disk.store.images.get("two")
        disk.store.snapshots.create("container", image.chain_id)
        disk.remove("two", force=True, users={"c": False})
        assert disk.folders() == 2, "the container still needs them"
        disk.store.snapshots.remove("container")
        disk.store.images.collect_layers()
        assert disk.folders() == 0

    def test_a_layer_that_is_being_made_into_an_image_stays(self, disk: Disk) -> None:
        layer = disk.layer("fresh")
        disk.image("a", tag="app")
        disk.remove("app")
        assert layer.chain_id in disk.store.layers
        disk.store.layers.release([layer.chain_id])
        assert disk.store.images.collect_layers() == [layer.chain_id]


class TestOpening:
    def test_everything_is_there_again(self, disk: Disk) -> None:
        image_id = disk.image("a", "b", tag="app:1")
        disk.store.snapshots.create("container", disk.store.images.get("app:1").chain_id)
        disk.reopen()
        image = disk.store.images.get("app:1")
        assert (image.id, image.size) == (image_id, 20)
        assert len(disk.store.snapshots.mounts("container")) == 1

    def test_what_is_half_made_is_swept(self, disk: Disk) -> None:
        disk.image("a", tag="app:1")
        folder = disk.root / "layers" / ("0" * 64)
        (folder / "diff").mkdir(parents=True)
        (disk.root / "tmp" / "area-x" / "layer-0").mkdir(parents=True)
        (disk.root / "tmp" / "blob-x").touch()
        (disk.root / "blobs" / "sha256" / ("0" * 64)).touch()
        disk.reopen()
        assert disk.folders() == 1
        assert len(list(disk.store.blobs)) == 2
        disk.store.close()
        assert os.listdir(disk.root / "tmp") == []

    def test_an_orphaned_layer_goes(self, disk: Disk) -> None:
        disk.layer("orphan")
        disk.reopen()
        assert disk.folders() == 0
        assert list(disk.store.blobs) == []

    def test_what_was_not_synced_when_the_machine_fell_is_dropped(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk.image("a", tag="synced")
        disk.store.staging.sync_later()
        disk.store.staging.close()
        disk.reopen()
        lost = disk.image("b", "c", tag="lost")
        disk.close()
        for module in ("layers", "images"):
            monkeypatch.setattr(f"wherry.storage.{module}.boot_id", lambda: "another boot")
        disk.open()
        assert disk.store.images.get("synced").size == 10
        with pytest.raises(NotFound):
            disk.store.images.get(lost)
        assert disk.folders() == 1

    def test_the_boot_id_is_this_machine_s(self) -> None:
        assert len(layers_module.boot_id()) == 36


def test_a_configuration_that_is_none(disk: Disk) -> None:
    for raw in (b"", b"[]", b"{", b'{"rootfs": 5}', b"[" * 100_000):
        with pytest.raises(InvalidParameter, match="image configuration"):
            disk.store.images.add(raw)
    assert msgspec.json.decode(b"[1]") == [1]


def test_disk_usage(disk: Disk) -> None:
    disk.image("a", "b", tag="one")
    disk.image("a", "c", tag="two")
    usage = disk.store.disk_usage()
    assert (usage.layers, usage.blobs) == (30, 3 * len("tar of a"))


def test_mounts(disk: Disk) -> None:
    disk.image("a", "b", tag="app")
    chain_id = disk.store.images.get("app").chain_id
    disk.store.snapshots.create("c1", chain_id)
    disk.store.snapshots.create("c2", None)
    (mount,) = disk.store.snapshots.mounts("c1")
    assert (mount.type, mount.target) == ("overlay", "")
    options = dict(option.split("=", 1) for option in mount.options)
    lower = options["lowerdir"].split(":")
    assert lower[0] == disk.store.layers.path(chain_id) and len(lower) == 3
    assert options["upperdir"].endswith("/containers/c1/diff") and os.path.isdir(options["workdir"])
    Path(options["upperdir"], "file").write_text("1234")
    assert disk.store.snapshots.sizes(["c1", "gone"]) == {"c1": 4} and disk.store.snapshots.size("c1") == 4
    assert all(os.path.isdir(path) for path in lower)
    assert "lowerdir=" in disk.store.snapshots.mounts("c2")[0].options[0]
    view = disk.store.snapshots.view(chain_id, "/data")
    assert (view.target, "ro" in view.options) == ("/data", True)
    assert disk.store.snapshots.describe("c1")["UpperDir"] == options["upperdir"]
    with pytest.raises(NotFound):
        disk.store.snapshots.mounts("nothing")


def test_layers_of_containers_are_where_docker_has_them(disk: Disk) -> None:
    """Also those that an earlier version has made."""
    for name in ("c1", "c2"):
        disk.store.snapshots.create(name, None)
        (disk.root / "containers" / name / "diff" / name).touch()
    os.rename(disk.root / "containers" / "c1" / "diff", disk.root / "containers" / "c1" / "upper")
    for left in ("containers/c1/mount-id", "image/overlay2/layerdb/mounts", "overlay2"):
        (disk.root / left).unlink()
    for _ in range(2):
        disk.reopen()
        for name in ("c1", "c2"):
            found = (disk.root / "image/overlay2/layerdb/mounts" / name / "mount-id").read_text()
            layer = disk.root / "overlay2" / found / "diff"
            assert os.listdir(layer) == [name] and not layer.is_symlink()
            assert os.path.samefile(layer, disk.store.snapshots.describe(name)["UpperDir"])


def test_a_data_root_with_a_colon(tmp_path: Path) -> None:
    (tmp_path / "a:b\\c").mkdir()
    disk = Disk(tmp_path / "a:b\\c")
    disk.image("a", tag="app")
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    from wherry.linux.mounts import split_directories

    lowerdir = disk.store.snapshots.mounts("c1")[0].options[0].removeprefix("lowerdir=")
    assert split_directories(lowerdir)[0] == disk.store.layers.path(disk.store.images.get("app").chain_id)
    disk.close()


async def test_snapshots_come_and_go(disk: Disk) -> None:
    snapshots = disk.store.snapshots
    for name in ("kept", "gone", "swept"):
        snapshots.create(name, None)
    await snapshots.discard("gone")
    await snapshots.discard("gone")
    (disk.root / "containers" / "stray").mkdir()
    snapshots.sweep(["kept"])
    assert os.listdir(disk.root / "containers") == ["kept"]
    with pytest.raises(FileExistsError):
        snapshots.create("kept", None)


def test_the_form_that_registries_have_goes_with_the_layer(disk: Disk) -> None:
    disk.image("a", "b", tag="first:1")
    disk.image("c", "b", tag="second:1")
    layers = disk.store.layers
    [_, b] = disk.store.images.layers(disk.store.images.get("first:1"))
    [c, _] = disk.store.images.layers(disk.store.images.get("second:1"))
    packed = "sha256:" + "1" * 64
    layers.note_pushed(b.diff_id, packed, 5)
    layers.note_pushed(c.diff_id, c.diff_id, 6)
    disk.reopen()
    layers = disk.store.layers
    assert layers.pushed_as(b) == Descriptor(MEDIA_TYPES["gzip"], packed, 5)
    assert layers.pushed_as(c) == Descriptor(MEDIA_TYPES[""], c.diff_id, 6)
    assert {name.familiar for name in disk.store.images.names_with_blob(packed)} == {"first:1", "second:1"}
    disk.remove("first:1")
    assert layers.pushed_as(b) is not None, "it lies upon another layer as well"
    disk.remove("second:1")
    assert layers.pushed_as(b) is layers.pushed_as(c) is None
    layers.note_pushed(b.diff_id, packed, 5)
    assert layers.pushed_as(b) is None, "it went while it was pushed"
