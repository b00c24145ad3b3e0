FROM debian:bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /opt/venv
ENV PATH="/opt/venv/bin:$PATH"
COPY <<'EOF' /opt/venv/lib/python3.11/site-packages/service.py
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok\n")


def main():
    HTTPServer(("", 8080), Handler).serve_forever()
EOF

FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends python3-minimal libpython3-stdlib && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH"
RUN useradd --create-home --uid 10001 service
USER service
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://localhost:8080')"]
CMD ["python3", "-c", "import service; service.main()"]
