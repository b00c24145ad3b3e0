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


def test_no_line_is_wider_than_the_terminal() -> None:
    deep = [(f"sha256:{number:064x}", 10_000_000, f"RUN step {number} of many") for number in range(30)]
    names = [f"registry.example.org:5000/team/of/many/people/application:{tag}" for tag in ("1.0", "latest")]
    images = [Image(names, 300_000_000, deep), Image(["other:1"], 40_000_000, [*deep[:3], CODE])]
    for width in (80, 100, 120):
        lines = draw(images, truncates=True, width=width, bold=False).splitlines()
        assert max(map(len, lines)) < width
        assert any("└─ registry.example.org:5000/tea" in line and "RUN step" in line for line in lines)
    assert ", ".join(names) in draw(images, truncates=False, width=80, bold=False)


def test_a_layer_alone_upon_one_that_is_alone_stands_straight_below_it() -> None:
    text = draw([Image(["app:1"], 120_003_000, [BASE, TOOLS, CODE])], truncates=True, width=0, bold=False)
    drawn = [line.split("   ")[0] for line in text.splitlines()[1:4]]
    assert drawn == ["(aaaaaaaaaaaa)", "└─ (bbbbbbbbbbbb)", "└─ app:1"]
