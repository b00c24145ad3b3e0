"""From a graph to an image: what the graph comes to, with the configuration that its client gives it."""

import contextlib

import msgspec

from wherry.common.errors import EngineError, InvalidParameter
from wherry.common.platforms import host_architecture
from wherry.engine.builder.graph import Graph
from wherry.engine.builder.graph_solver import GraphSolver
from wherry.engine.builder.steps import note_result
from wherry.engine.container import spec
from wherry.linux.mounts import Mount
from wherry.model.container import ContainerConfig
from wherry.model.image import History, ImageConfig, RootFS
from wherry.storage.build_snapshots import Workspace
from wherry.storage.content import digest_of
from wherry.storage.store import Store


async def build_graph(solver: GraphSolver, graph: Graph, workspace: Workspace, store: Store) -> tuple[str, bool]:
    """The image that a graph's files make, and whether it was not there before. What steps have made is noted in the
    cache, whatever happens. Raises EngineError."""
    async with solver.underway:
        try:
            ref = await solver.on_tree(await solver.solve(graph))
            chain_id = await solver.kept(ref.tree)
        finally:
            noted = []
            for result in solver.steps.results:
                with contextlib.suppress(EngineError):
                    await workspace.keep(result.after)
                    noted.append(result)
            note_result(store.build_cache, noted)
    config = ImageConfig(
        architecture=host_architecture(), os="linux", config=ContainerConfig(env=[spec.PATH], working_dir="/")
    )
    return write(store, config, chain_id)


def configure(store: Store, image: str, document: bytes) -> tuple[str, bool]:
    """The same files with another configuration, as its client wrote it. Raises InvalidParameter."""
    try:
        config = msgspec.json.decode(document, type=ImageConfig)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidParameter(f"invalid image config: {error}") from None
    return write(store, config, store.images.get(image).chain_id)


def write(store: Store, config: ImageConfig, chain_id: str) -> tuple[str, bool]:
    """An image of layers; its history is made to have an entry for each of them."""
    layers = store.layers.chain(chain_id)
    history = list(config.history)
    with_layer = [entry for entry in history if not entry.empty_layer]
    if len(with_layer) > len(layers):
        raise InvalidParameter(f"invalid image config: its history has {len(with_layer)} layers of {len(layers)}")
    history += [History(created_by="buildkit") for _ in range(len(layers) - len(with_layer))]
    made = msgspec.structs.replace(
        config,
        architecture=config.architecture or host_architecture(),
        os=config.os or "linux",
        rootfs=RootFS(diff_ids=[layer.diff_id for layer in layers]),
        history=history,
    )
    document = msgspec.json.encode(made)
    there = store.images.find(digest_of(document))
    return (there.id, False) if there is not None else (store.images.add(document), True)


def view(store: Store, image: str) -> Mount:
    """What to mount to look at an image's files. Raises NotFound."""
    return store.snapshots.view(store.images.get(image).chain_id, "")
