FROM debian:bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends golang-go && rm -rf /var/lib/apt/lists/*
WORKDIR /go/src/app
COPY <<EOF go.mod
module example.org/app

go 1.19
EOF
COPY <<EOF main.go
package main

import "fmt"

var version = "dev"

func main() { fmt.Println("app", version) }
EOF
ARG VERSION=1.0.0
RUN --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /bin/app .

FROM scratch
COPY --from=build /bin/app /app
USER 65534:65534
ENTRYPOINT ["/app"]
