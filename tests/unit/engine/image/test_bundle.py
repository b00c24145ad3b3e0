"""What exporters may be told of an image that leaves."""

import pytest

from wherry.common.errors import InvalidParameter, NotSupported
from wherry.engine.image.bundle import Format, read_format
from wherry.model.image import CONFIG, DOCKER_CONFIG, Platform


def test_nothing_said_is_what_a_push_sends() -> None:
    assert read_format({"name": "x", "push": "true"}) == Format()
    assert Format().is_usual
    assert not read_format({"compression": "zstd"}).is_usual
    assert not read_format({"compression-level": "9"}).is_usual


def test_dockers_own_media_types() -> None:
    assert read_format({"oci-mediatypes": "false"}).media_type(CONFIG) == DOCKER_CONFIG
    assert read_format({}).media_type(CONFIG) == CONFIG


def test_annotations_go_where_they_are_said_to() -> None:
    found = read_format({
        "annotation.a": "1",
        "annotation-index.b": "2",
        "annotation-manifest[linux/arm64].a": "3",
        "annotation-manifest-descriptor.c.d": "4",
    }).annotations  # fmt: skip
    arm = Platform("arm64", "linux")
    assert found.of("manifest", arm) == {"a": "3"}
    assert found.of("manifest", Platform("amd64", "linux")) == {"a": "1"}
    assert found.of("index") == {"b": "2"}
    assert found.of("manifest-descriptor", arm) == {"c.d": "4"}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"compression": "estargz"}, "estargz is not supported"),
        ({"compression": "lz4"}, "unsupported compression type lz4"),
        ({"compression-level": "10"}, "expected 0 to 9"),
        ({"compression-level": "-1"}, "invalid compression-level -1"),
        ({"compression": "zstd", "compression-level": "23"}, "expected 0 to 22"),
        ({"compression": "zstd", "oci-mediatypes": "false"}, 'conflicts with "oci-mediatypes=false"'),
        ({"annotation.a": "b", "oci-mediatypes": "false"}, "cannot export annotations"),
        ({"force-compression": "maybe"}, "non-bool value specified for force-compression: maybe"),
    ],
)
def test_what_cannot_be(attributes: dict[str, str], said: str) -> None:
    with pytest.raises((InvalidParameter, NotSupported), match=said):
        read_format(attributes)
