import struct

import pytest

from wherry.network import dns


def question(name: str, kind: int, *, size: int = 0, number: int = 7) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    packet = (
        struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, int(bool(size))) + labels + b"\0" + struct.pack(">HH", kind, 1)
    )
    return packet + (b"\0" + struct.pack(">HHIH", dns.OPT, size, 0, 0) if size else b"")


def test_a_question_is_read() -> None:
    found = dns.parse(question("Web.Example", dns.A))
    assert (found.name, found.kind, found.size, found.is_query) == ("web.example", dns.A, 512, True)
    assert dns.parse(question("web", dns.A, size=1232)).size == 1232


TRUNCATED = 0x02
WITH_POINTER = b"\0\7\1\0\0\1" + b"\0" * 6 + b"\xc0\x0c"


@pytest.mark.parametrize("packet", [b"", b"x" * 11, b"\0" * 12, question("web", dns.A)[:-3], WITH_POINTER])
def test_what_is_no_question(packet: bytes) -> None:
    with pytest.raises(dns.Malformed):
        dns.parse(packet)


def test_an_answer_holds_the_question_and_the_records() -> None:
    asked = dns.parse(question("web", dns.A))
    records = [dns.address_record("10.0.0.1"), dns.address_record("10.0.0.2")]
    packet = b"\0\7" + dns.answer(asked, dns.NOERROR, records, limit=512)
    number, flags, questions, answers, _, _ = struct.unpack_from(">HHHHHH", packet)
    assert (number, questions, answers) == (7, 1, 2)
    assert flags & 0x8000
    assert flags & 0x0100  # recursion was desired
    assert packet.endswith(bytes([10, 0, 0, 2]))


def test_what_is_too_long_for_udp_is_asked_for_again() -> None:
    asked = dns.parse(question("web", dns.A))
    records = [dns.address_record(f"10.0.0.{number}") for number in range(60)]
    short = b"\0\7" + dns.answer(asked, dns.NOERROR, records, limit=512)
    assert short[2] & TRUNCATED
    assert len(short) < 512
    assert not (b"\0\7" + dns.answer(asked, dns.NOERROR, records, limit=65535))[2] & TRUNCATED


def test_reverse_names() -> None:
    assert dns.asked_address("2.0.17.172.in-addr.arpa") == "172.17.0.2"
    assert dns.asked_address("1." + "0." * 29 + "d.f.ip6.arpa") == "fd00::1"
    for wrong in ("in-addr.arpa", "1.2.3.in-addr.arpa", "x.0.17.172.in-addr.arpa", "web"):
        assert dns.asked_address(wrong) == ""
