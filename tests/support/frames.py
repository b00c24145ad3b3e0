"""The frames in which the API sends what a container prints."""

import struct


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """(stream, text) of each. Neighbours of one stream are put together: where they are cut says nothing."""
    found: list[tuple[int, bytes]] = []
    while data:
        stream, length = struct.unpack_from(">B3xI", data)
        payload, data = data[8 : 8 + length], data[8 + length :]
        assert len(payload) == length
        if found and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + payload)
        else:
            found.append((stream, payload))
    return found
