FROM golang:1.22 AS base
WORKDIR /app
ENV CGO_ENABLED=1
COPY . .

FROM base AS lint
COPY --from=golangci/golangci-lint:v1.59 /usr/bin/golangci-lint /usr/bin/golangci-lint
RUN golangci-lint run --timeout 10m0s ./...

FROM base AS unit
RUN mkdir /out && go test -race -coverprofile=/out/cover.out ./... | tee /out/test.txt

FROM scratch AS coverage
COPY --from=unit /out /

FROM base AS release
RUN go build -o /usr/local/bin/app .
