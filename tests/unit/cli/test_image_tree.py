from typing import Any

from wherry.cli.image_tree import Image, draw, match_layers

BASE = ("sha256:" + "a" * 64, 100_000_000, "ADD rootfs.tar / # buildkit")
TOOLS = ("sha256:" + "b" * 64, 20_000_000, "RUN apt-get install -y everything that one may ever need and more")
CODE = ("sha256:" + "c" * 64, 3_000, "COPY . /app")


def test_shared_layers_are_drawn_once() -> None:
    images = [
        Image(["app:1", "app:latest"], 120_003_000, [BASE, TOOLS, CODE]),
        Image(["<none> 0123456789ab"], 100_003_000, [BASE, CODE]),
        Image(["debian:12"], 100_000_000, [BASE]),
        Image(["empty:latest"], 0, []),
    ]
    assert (
        draw(images, truncates=True, width=0, bold=False)
        == """\
IMAGE                     LAYER SIZE   IMAGE SIZE   CREATED BY
empty:latest              0B           0B
debian:12                 100MB        100MB        ADD rootfs.tar / # buildkit
├─ (bbbbbbbbbbbb)         20MB                      RUN apt-get install -y everything that one may ever need an…
│  └─ app:1, app:latest   3kB          120MB        COPY . /app
└─ <none> 0123456789ab    3kB          100MB        COPY . /app

4 images, 4 layers, 120MB; 200MB saved by sharing
"""
    )


def test_names_stand_out_on_a_terminal() -> None:
    lines = draw([Image(["debian:12"], 100_000_000, [BASE])], truncates=True, width=80, bold=True).splitlines()
    assert lines[1].startswith("\x1b[1mdebian:12\x1b[m")
    assert lines[-1] == "1 image, 1 layer, 100MB"


def step(size: int, command: str) -> dict[str, Any]:
    return {"Size": size, "CreatedBy": command}


def test_steps_and_their_layers() -> None:
    """History is told from the last step, and does not say which of them made a layer."""
    history = [
        step(0, '/bin/sh -c #(nop)  CMD ["sh"]'), step(0, "RUN /bin/sh -c true # buildkit"), step(0, "ENV A=1"),
        step(5, "/bin/sh -c #(nop) ADD file:1 in / "),
    ]  # fmt: skip
    assert match_layers(["one", "two"], history) == [
        ("one", 5, "ADD file:1 in /"), ("two", 0, "RUN /bin/sh -c true # buildkit")
    ]  # fmt: skip
    assert match_layers(["one", "two"], []) == [("one", 0, ""), ("two", 0, "")]
