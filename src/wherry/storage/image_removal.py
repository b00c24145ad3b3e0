"""Removing images: which names go, which images go with them, and what is in the way."""

import contextlib
from collections.abc import Callable, Iterable, Sequence

from wherry.common import reference
from wherry.common.errors import Conflict
from wherry.common.reference import Reference
from wherry.storage.images import Image, Images

# Which containers use an image: (id, whether it runs).
Users = Callable[[str], Iterable[tuple[str, bool]]]


def remove(images: Images, name: str, *, force: bool, prune: bool, users: Users) -> list[dict[str, str]]:
    """Takes a name from an image, and the image away with its last one. Docker's rules, errors and answer.

    The answer is {"Untagged": name} and {"Deleted": id} in order. With ``prune`` unnamed parents go too, as far as
    nobody uses them. Raises NotFound and Conflict.
    """
    removal = _Removal(images, users)
    image = images.get(name)
    if not _is_id_prefix(image.id, name):
        removal.untag(image, name, force=force)
        if not images.names(image.id):
            with contextlib.suppress(Conflict):  # somebody uses it: then it stays, without a name
                removal.delete(image, force=force, prune=prune)
        removal.delete_members()
        return removal.done
    if _is_single(images.names(image.id)):
        removal.check(image.id, force=force, named=False)
        removal.untag_all(image.id)
    removal.delete(image, force=force, prune=prune)
    removal.delete_members()
    return removal.done


class _Removal:
    """``done`` is the answer so far."""

    def __init__(self, images: Images, users: Users) -> None:
        self._images = images
        self._users = users
        self._in_indexes = images.in_indexes()
        self.done: list[dict[str, str]] = []

    def delete_members(self) -> None:
        """Removes the images that only the index of a name which went has led to."""
        for image_id in self._in_indexes - self._images.in_indexes():
            image = self._images.find(image_id)
            if image is not None and not self._images.names(image_id):
                with contextlib.suppress(Conflict):
                    self.delete(image, force=False, prune=False)

    def untag(self, image: Image, name: str, *, force: bool) -> None:
        """Takes one name away, and with the last tag of a repository its digests: they are of no use to anybody."""
        used = next(iter(self._users(image.id)), None)
        if not force and _is_single(self._images.names(image.id)) and used is not None:
            raise Conflict(
                f'conflict: unable to remove repository reference "{name}" (must force) - '
                f"container {used[0][:12]} is using its referenced image {_short(image.id)}"
            )
        gone = self._untag(image.id, reference.parse(name).with_default_tag())
        left = [other for other in self._images.names(image.id) if other.name == gone.name]
        if not gone.digest and not any(other.tag for other in left):
            for other in left:
                self._untag(image.id, other)

    def untag_all(self, image_id: str) -> None:
        for name in self._images.names(image_id):
            self._untag(image_id, name)

    def _untag(self, image_id: str, name: Reference) -> Reference:
        gone = self._images.untag(image_id, name)
        self.done.append({"Untagged": gone.familiar})
        return gone

    def delete(self, image: Image, *, force: bool, prune: bool) -> None:
        self.check(image.id, force=force, named=True)
        self.untag_all(image.id)
        self._images.forget(image.id)
        self.done.append({"Deleted": image.id})
        self.done += [{"Deleted": chain_id} for chain_id in self._images.collect_layers()]
        parent = self._images.find(image.parent) if prune and image.parent else None
        if parent is not None and not self._images.names(parent.id):
            try:
                self.delete(parent, force=False, prune=True)
            except Conflict:
                return  # somebody uses the parent: that is how it stays, and nothing to complain about

    def check(self, image_id: str, *, force: bool, named: bool) -> None:
        """Raises Conflict. ``named``: having names is in the way, too."""

        def conflict(text: str, *, hard: bool) -> Conflict:
            how = "cannot be forced" if hard else "must be forced"
            return Conflict(f"conflict: unable to delete {_short(image_id)} ({how}) - {text}")

        if self._images.children(image_id):
            raise conflict("image has dependent child images", hard=True)
        found = list(self._users(image_id))
        for container, running in found:
            if running:
                raise conflict(f"image is being used by running container {container[:12]}", hard=True)
        if force:
            return
        if named and self._images.names(image_id):
            raise conflict("image is referenced in multiple repositories", hard=False)
        if found:
            raise conflict(f"image is being used by stopped container {found[0][0][:12]}", hard=False)


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def _is_id_prefix(image_id: str, name: str) -> bool:
    return image_id.startswith(name) or image_id.removeprefix("sha256:").startswith(name)


def _is_single(names: Sequence[Reference]) -> bool:
    """Whether it has at most one name, not counting the digests of the same repository."""
    tagged = [name for name in names if name.tag]
    if len(names) <= 1:
        return True
    return len(tagged) == 1 and all(name.name == tagged[0].name for name in names)
