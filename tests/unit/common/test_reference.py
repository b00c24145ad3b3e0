"""Image names: what Docker takes, what it makes of it, and what it says of the rest."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.common import reference
from wherry.common.reference import InvalidReference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("debian", "docker.io/library/debian", "debian"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("library/debian", "docker.io/library/debian", "debian"),
        ("docker.io/debian", "docker.io/library/debian", "debian"),
        ("index.docker.io/debian", "docker.io/library/debian", "debian"),
        ("index.docker.io/library/debian", "docker.io/library/debian", "debian"),
        ("team/app", "docker.io/team/app", "team/app"),
        ("docker.io/team/app:1", "docker.io/team/app:1", "team/app:1"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app"),
        ("127.0.0.1:5000/team/app:v1", "127.0.0.1:5000/team/app:v1", "127.0.0.1:5000/team/app:v1"),
        ("[fd00::1]:5000/app", "[fd00::1]:5000/app", "[fd00::1]:5000/app"),
        ("registry.example/library/debian", "registry.example/library/debian", "registry.example/library/debian"),
        ("Upper/app", "Upper/app", "Upper/app"),  # a capital letter makes the first part a host's name
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}", f"debian:12@{DIGEST}"),
        ("a__b/c-d--e.f", "docker.io/a__b/c-d--e.f", "a__b/c-d--e.f"),
        ("app:" + "t" * 128, "docker.io/library/app:" + "t" * 128, "app:" + "t" * 128),
        ("docker/library/debian", "docker.io/docker/library/debian", "docker/library/debian"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
    ],
)
def test_parses_and_shortens(text: str, whole: str, familiar: str) -> None:
    found = reference.parse(text)
    assert str(found) == whole
    assert found.familiar == familiar
    assert reference.parse(found.familiar) == found


@pytest.mark.parametrize(
    "text",
    ["", ":justtag", "a//b", "-app", "app-", "a___b", "app:", "app:-tag", "app:" + "t" * 129, "[fd00::1]/", "a b",
     "https://example.org/app", "app@sha256", "app@sha256:12", "example..org/app", "_app", "app/", "/app", "app:a:b",
     "ünï", "a_.b", "a..b", "-a.b/c", "[]/a", "localhost:x/x", "app\n", "app:tag\n", "[fd00::1/app"],
)  # fmt: skip
def test_refuses_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidReference, match="invalid reference format"):
        reference.parse(text)


@pytest.mark.parametrize("text", ["Debian", "team/App:1", "registry.example/Team/app"])
def test_names_must_be_lower_case(text: str) -> None:
    with pytest.raises(InvalidReference, match=r"invalid reference format: repository name \(.*\) must be lowercase"):
        reference.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Foo@bar", "library/Foo@bar"), (f"Foo@{DIGEST}", "library/Foo@sha256"), ("a/Foo:1", "a/Foo")],
)
def test_the_name_with_capitals_is_shown_as_docker_shows_it(text: str, shown: str) -> None:
    with pytest.raises(InvalidReference) as refused:
        reference.parse(text)
    assert str(refused.value) == f"invalid reference format: repository name ({shown}) must be lowercase"


def test_names_have_a_length() -> None:
    assert reference.parse("a" * 128 + "/" + "b" * 116)
    with pytest.raises(InvalidReference, match="must not be more than 255 characters"):
        reference.parse("a" * 128 + "/" + "b" * 117)


def test_an_id_is_no_name() -> None:
    with pytest.raises(InvalidReference, match="cannot specify 64-byte hexadecimal strings"):
        reference.parse("0" * 64)
    assert reference.parse("0" * 63)


@pytest.mark.parametrize(
    ("digest", "message"),
    [
        ("md5:" + "0" * 32, "unsupported digest algorithm"),
        ("sha256:" + "0" * 63, "invalid checksum digest length"),
        ("sha512:" + "0" * 64, "invalid checksum digest length"),
        ("sha1024+b64:" + "0" * 64, "unsupported digest algorithm"),
        ("sha256:" + "0" * 63 + "G", "invalid reference format"),
        ("sha256:aa", "invalid reference format"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
    ],
)
def test_digests_are_checked(digest: str, message: str) -> None:
    with pytest.raises(InvalidReference, match=message):
        reference.parse(f"app@{digest}")


def test_default_tag() -> None:
    assert reference.parse("app").with_default_tag().familiar == "app:latest"
    assert reference.parse("app:1").with_default_tag().familiar == "app:1"
    assert reference.parse(f"app@{DIGEST}").with_default_tag().tag == ""


def test_tagged() -> None:
    assert reference.parse_to_tag("app").familiar == "app:latest"
    assert reference.parse_to_tag("app:1").familiar == "app:1"
    assert reference.parse_to_tag("app:1", "2").familiar == "app:2"
    with pytest.raises(InvalidReference, match="digest reference"):
        reference.parse_to_tag(f"app@{DIGEST}")
    with pytest.raises(InvalidReference, match="invalid tag format"):
        reference.parse_to_tag("app", "a/b")


@pytest.mark.parametrize(
    ("text", "expected"), [("0" * 64, True), (DIGEST, True), ("0" * 12, False), ("app", False), ("A" * 64, False)]
)
def test_what_can_only_be_an_id(text: str, expected: bool) -> None:
    assert reference.is_image_id(text) is expected


LOWER = string.ascii_lowercase + string.digits
COMPONENTS = st.from_regex(r"[a-z0-9]{1,6}(([._]|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
DOMAINS = st.one_of(
    st.from_regex(r"[a-z0-9]{1,5}(-[a-z0-9]{1,3})?(\.[A-Za-z0-9]{1,4}){1,2}(:[0-9]{1,5})?", fullmatch=True),
    st.sampled_from(("localhost", "localhost:1", "UPPER", "[::1]", "[2001:db8::1]:5000", "docker.io")),
)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}", fullmatch=True)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


@given(DOMAINS, st.lists(COMPONENTS, min_size=1, max_size=4), st.just("") | TAGS, st.just("") | DIGESTS)
def test_whole_names_come_back(domain: str, components: list[str], tag: str, digest: str) -> None:
    path = "/".join(components)
    text = f"{domain}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = reference.parse(text)
    assert (found.tag, found.digest) == (tag, digest)
    assert found.domain == ("docker.io" if domain in ("docker.io", "index.docker.io") else domain)
    assert found.path in (path, f"library/{path}")
    assert reference.parse(str(found)) == found
    if domain != "docker.io":  # of whose names the short form may look like another registry's, as in Docker
        assert reference.parse(found.familiar) == found


@given(st.text(alphabet=f"{LOWER}AZ/:@.-_[]é \n", max_size=40) | st.text(max_size=20))
def test_any_text_is_refused_or_means_one_thing(text: str) -> None:
    try:
        found = reference.parse(text)
    except InvalidReference:
        return
    assert reference.parse(str(found)) == found
    assert len(found.name) <= 255 and found.path == found.path.lower() and found.name.isascii()
