"""What clients send to servers of the tests: with a length, or in chunks."""

import http.server


def take_body(handler: http.server.BaseHTTPRequestHandler) -> bytes:
    """The body of a request as a whole, with a length from then on, so that the headers can be passed on."""
    headers, file = handler.headers, handler.rfile
    if headers.get("Transfer-Encoding") != "chunked":
        return file.read(int(headers.get("Content-Length") or 0))
    body = b""
    while size := int(file.readline(), 16):
        body += file.read(size)
        file.readline()
    file.readline()
    del headers["Transfer-Encoding"]
    headers["Content-Length"] = str(len(body))
    return body
