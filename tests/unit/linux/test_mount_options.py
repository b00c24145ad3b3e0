"""mount(8)'s options, sorted by who takes them."""

import pytest

from wherry.linux import mounts
from wherry.linux.mounts import Options, parse_options, split_directories


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), Options()),
        (("ro", "nosuid"), Options(set=mounts.ATTR_RDONLY | mounts.ATTR_NOSUID)),
        (("ro", "rw"), Options(clear=mounts.ATTR_RDONLY)),
        (("rro",), Options(recursive_set=mounts.ATTR_RDONLY)),
        (("rbind", "rslave"), Options(propagation=mounts.MS_SLAVE, propagation_recursive=True, recursive_bind=True)),
        (("bind", "private"), Options(propagation=mounts.MS_PRIVATE)),
        (("noatime",), Options(set=mounts.ATTR_NOATIME, clear=mounts.ATTR_ATIME)),
        (("relatime",), Options(clear=mounts.ATTR_ATIME)),
        (("mode=755", "size=65536k", "newinstance"), Options(data=("mode=755", "size=65536k", "newinstance"))),
    ],
)
def test_options(options: tuple[str, ...], expected: Options) -> None:
    assert parse_options(options) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/a", ["/a"]), ("/a:/b", ["/a", "/b"]), (r"/a\:b:/c", ["/a:b", "/c"]), (r"/a\\:/b", ["/a\\", "/b"])],
)
def test_lower_directories(value: str, expected: list[str]) -> None:
    assert split_directories(value) == expected
