"""What provenance says, and what it keeps to itself."""

import pytest

from wherry.common.errors import InvalidParameter, NotSupported
from wherry.engine.builder.provenance import Invocation, Material, Wanted, check, provenance, wants_sbom
from wherry.engine.image.attestation import url_of_package

BUILD = Invocation(
    "ref", {"target": "t", "build-arg:A": "b", "attest:sbom": ""}, "linux/amd64",
    [Material("pkg:docker/busybox@latest", "sha256:" + "a" * 64), Material("https://host/x")], 0, 1, "", "Dockerfile",
    b"FROM x",
)  # fmt: skip


def test_the_least_tells_of_no_argument() -> None:
    said = provenance(Wanted(), BUILD)
    assert said.predicate_type == "https://slsa.dev/provenance/v0.2"
    assert said.predicate["invocation"]["parameters"]["args"] == {"target": "t"}
    assert said.predicate["materials"][0]["digest"] == {"sha256": "a" * 64}
    assert said.predicate["materials"][1] == {"uri": "https://host/x"}
    assert not said.predicate["metadata"]["completeness"]["parameters"]


def test_all_of_it() -> None:
    said = provenance(Wanted(full=True), BUILD).predicate
    assert said["invocation"]["parameters"]["args"] == {"target": "t", "build-arg:A": "b"}
    assert said["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]["source"]["infos"][0]["data"] == "RlJPTSB4"
    newer = provenance(Wanted(full=True, version="v1", builder="me"), BUILD)
    assert newer.predicate_type == "https://slsa.dev/provenance/v1"
    assert newer.predicate["runDetails"]["builder"] == {"id": "me"}
    assert newer.predicate["buildDefinition"]["externalParameters"]["request"]["args"]["build-arg:A"] == "b"


def test_what_is_wanted() -> None:
    assert Wanted.parse("type=provenance,mode=max,inline-only=true") == Wanted(full=True, inline_only=True)
    assert Wanted.parse("disabled=true") is None
    assert wants_sbom("")
    assert not wants_sbom("disabled=true")
    assert not wants_sbom(None)


@pytest.mark.parametrize(
    "options",
    [
        {"attest:provenance": "mode=some"},
        {"attest:provenance": "version=v9"},
        {"attest:provenance": "colour=red"},
        {"attest:sbom": "generator=some/image"},
        {"attest:other": ""},
    ],
)
def test_what_cannot_be_attested(options: dict[str, str]) -> None:
    with pytest.raises((InvalidParameter, NotSupported)):
        check(options)


def test_package_urls() -> None:
    release = {"ID": "fedora", "VERSION_ID": "40"}
    found = {"type": "rpm", "name": "bash", "version": "1:5-2", "architecture": "x86_64"}
    assert url_of_package(found, release) == "pkg:rpm/fedora/bash@1%3A5-2?arch=x86_64&distro=fedora-40"
    assert url_of_package({"type": "npm", "name": "@a/b", "version": "1"}, release) == "pkg:npm/%40a/b@1"
    assert url_of_package({"type": "pypi", "name": "Some_Thing"}, {}) == "pkg:pypi/some-thing"
