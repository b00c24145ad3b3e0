FROM golang:1.22 AS build
ENV GOPRIVATE=git.example.org/*
RUN mkdir -p -m 0700 ~/.ssh && ssh-keyscan git.example.org >> ~/.ssh/known_hosts
RUN git config --global url."git@git.example.org:".insteadOf "https://git.example.org/"
WORKDIR /src
COPY go.* .
RUN --mount=type=ssh go mod download -x
COPY . .
RUN go test ./... && go install ./...

FROM debian:bookworm-slim
COPY --from=build /go/bin/ /usr/local/bin/
