"""Addresses of the web: what is none is told in one line."""

import pytest

from wherry.common.errors import InvalidParameter
from wherry.common.ports import split_address
from wherry.common.reference import parse
from wherry.registry.endpoints import Registries
from wherry.registry.errors import RegistryError
from wherry.registry.http import is_web_url, join_url, shown_url
from wherry.registry.search import domain_of

NONE = ["http://[::1", "http://h]/", "http://h:port/", "http://h:99999/", "//[::1", "http://[v1/"]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^parse "):
        split_address(text)
    with pytest.raises(InvalidParameter, match=r"^unable to parse server address: "):
        domain_of(text)
    with pytest.raises(InvalidParameter, match=r"^invalid mirror: "):
        Registries(mirrors=[text])
    with pytest.raises(RegistryError, match="not an address of the web"):
        join_url("https://registry.example/v2/", text)
    assert not is_web_url(text)
    assert shown_url(text) == "what is no address"


def test_what_is_one() -> None:
    assert split_address("https://user@host:5000/a?b").hostname == "host"
    assert domain_of("https://host:5000/v1/") == domain_of("host:5000/v1/") == "host:5000"
    assert domain_of("[::1]:5000") == "[::1]:5000"


async def test_brackets_of_a_reference_that_hold_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer Pythons look into the brackets."""

    def refuse(text: str) -> None:
        raise ValueError("':::::' does not appear to be an IPv4 or IPv6 address")

    domain = parse("[:::::]:5000/a").domain
    monkeypatch.setattr("wherry.common.ports.urlsplit", refuse)
    with pytest.raises(InvalidParameter, match=r"parse .*does not appear to be"):
        await Registries().endpoints(domain)
