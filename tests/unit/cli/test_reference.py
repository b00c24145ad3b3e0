import pytest

from wherry.cli.reference import parse, tagged

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "repository", "tag", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox", "1.36", "busybox:1.36"),
        ("me/app", "docker.io/me/app", "", "me/app:latest"),
        ("library/me/app", "docker.io/library/me/app", "", "library/me/app:latest"),
        ("docker.io/me/app", "docker.io/me/app", "", "me/app:latest"),
        ("index.docker.io/library/app", "docker.io/library/app", "", "app:latest"),
        ("quay.io/a/b/c:x", "quay.io/a/b/c", "x", "quay.io/a/b/c:x"),
        ("localhost/app", "localhost/app", "", "localhost/app:latest"),
        ("host:5000/app", "host:5000/app", "", "host:5000/app:latest"),
        ("HOST/app", "HOST/app", "", "HOST/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app", "", "[::1]:5000/app:latest"),
        ("a.b/c__d/e-f--g.h", "a.b/c__d/e-f--g.h", "", "a.b/c__d/e-f--g.h:latest"),
        (f"app@{DIGEST}", "docker.io/library/app", "", f"app@{DIGEST}"),
        (f"app:x@{DIGEST}", "docker.io/library/app", "x", f"app:x@{DIGEST}"),
    ],
)
def test_names(text: str, repository: str, tag: str, familiar: str) -> None:
    reference = parse(text)
    assert reference is not None
    assert (reference.repository, reference.tag) == (repository, tag)
    assert tagged(reference).familiar == familiar


@pytest.mark.parametrize("text", ["f" * 64, DIGEST])
def test_whole_ids_are_no_names(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "a//b", "/a", "a/", "a:", ":x", "a:b:c", "a:-x", "a b", "a___b", "a..b", "-a", "a-", "a_.b",
        "a@sha256:12", "a@x", "a@", "host:port/app", "-a.b/c", "é", "a:" + "x" * 129, "[::1/app", "[]/a",
    ],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid reference format$"):
        parse(text)


def test_capitals_are_named() -> None:
    with pytest.raises(ValueError, match=r"repository name \(library/App\) must be lowercase"):
        parse("App")


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="must not be more than 255 characters"):
        parse("a" * 256)
