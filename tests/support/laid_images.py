"""Images without a worker: layers with nothing in them, put into a store by hand."""

import hashlib
import os
from typing import Any

from wherry.common import reference
from wherry.common.platforms import host_architecture
from wherry.model.image import ImageConfig, RootFS
from wherry.storage.layers import Layer
from wherry.storage.store import Store
from wherry.storage.worker.jobs import StagedLayer


def lay_layer(store: Store, name: str, parent: str = "", size: int = 10) -> Layer:
    """A layer that is told from others by its name."""
    area = f"{store.staging.path}/area-{name}{len(os.listdir(store.staging.path))}"
    os.makedirs(f"{area}/layer/diff")
    blob = f"tar of {name}".encode()
    with open(f"{area}/blob", "wb") as file:
        file.write(blob)
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    return store.layers.add(StagedLayer(digest, digest, size, blob=f"{area}/blob", layer=f"{area}/layer"), parent)


def lay_image(store: Store, *layer_names: str, parent: str = "", tag: str = "", **fields: Any) -> str:
    """The id of an image of these layers, the lowest first; for this machine unless ``fields`` say otherwise."""
    chain, diff_ids = "", []
    for name in layer_names:
        layer = lay_layer(store, name, chain)
        chain = layer.chain_id
        diff_ids.append(layer.diff_id)
    machine = {"architecture": host_architecture(), "os": "linux"}
    image_id = store.images.create(ImageConfig(**machine | fields, rootfs=RootFS(diff_ids=diff_ids)), parent=parent)
    if chain:
        store.layers.release([chain])
    if tag:
        store.images.tag(image_id, reference.parse_to_tag(tag))
    return image_id
