"""Frames that tell who has an address: as the kernel's own look on the wire."""

from wherry.network.bridge import frame

MAC = bytes.fromhex("021122334455")


def test_ipv4() -> None:
    assert frame(MAC, "10.0.0.9").hex() == (
        "ffffffffffff" "021122334455" "0806" "0001" "0800" "06" "04" "0001"
        "021122334455" "0a000009" "000000000000" "0a000009"
    )  # fmt: skip


def test_ipv6_has_a_right_checksum() -> None:
    found = frame(MAC, "fd00::9")
    addresses, message = found[22:54], found[54:]
    assert found[:14].hex() == "33330000000102112233445586dd"
    assert message[0] == 136
    data = addresses + len(message).to_bytes(4, "big") + (58).to_bytes(4, "big") + message
    total = sum(int.from_bytes(data[index : index + 2], "big") for index in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
