"""Files as people write them: all parse, make a graph, and none of them takes long.

Those named ``debian-*`` need Debian's packages and an empty context only; they are built for real elsewhere.
"""

from pathlib import Path

import pytest

from wherry.dockerfile.instructions import From
from wherry.dockerfile.lexer import DockerfileError
from wherry.dockerfile.parser import parse
from wherry.dockerfile.stages import build_graph

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.Dockerfile"))


def test_there_are_enough() -> None:
    assert len(CORPUS) >= 60


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    first = parse(path.read_bytes(), path.name)
    graph = build_graph(first)
    stages = [instruction for instruction in first.instructions if isinstance(instruction, From)]
    assert len(graph.stages) == len(stages)
    assert graph.needed()[-1] == graph.target
    if path.stem.startswith("debian-"):
        assert [image.image for image in graph.images()] == ["debian:bookworm"]


@pytest.mark.parametrize(
    "line",
    [
        "RUN " + "a \\\n" * 50_000,
        "RUN " + "\\ " * 100_000,
        "RUN " + "[" * 200_000,
        "RUN <<EOF\n" + "x\n" * 100_000 + "EOF",
        "RUN " + "<<a " * 20_000 + "\n" + "a\n" * 20_000,
        "ENV " + "a=b " * 50_000,
        "ENV a=" + '"' * 100_000,
        "COPY " + "a " * 100_000,
        "COPY " + "--x=" * 100_000,
        "RUN --mount=" + "a=b," * 50_000 + " c",
        "HEALTHCHECK --interval=" + "1" * 100_000 + " CMD a",
        "HEALTHCHECK --interval=" + "1s" * 50_000 + " CMD a",
        "# escape" + " " * 200_000,
        "LABEL " + "${a:-" * 50_000,
        "RUN " + " " * 200_000 + "\\",
        "FROM " + "a" * 200_000 + "!",
    ],
    ids=lambda line: line[:12],
)
def test_long_input_is_read_in_one_pass(line: str) -> None:
    """Without a clock: what is not linear would not come back."""
    try:
        parse(f"FROM a\n{line}\n")
    except DockerfileError as error:
        assert len(error.message) < 1_000_000
