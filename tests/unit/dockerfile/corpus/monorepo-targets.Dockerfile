ARG NODE=20
ARG GO=1.22
FROM node:${NODE} AS web-deps
WORKDIR /web
COPY web/package*.json ./
RUN npm ci
FROM web-deps AS web
COPY web .
RUN npm run build
FROM golang:${GO} AS api-deps
WORKDIR /api
COPY api/go.* ./
RUN go mod download
FROM api-deps AS api
COPY api .
RUN go build -o /api/server .
FROM api AS api-test
RUN go test ./...
FROM web AS web-test
RUN npm test
FROM scratch AS results
COPY --from=api-test /api/report.xml /api.xml
COPY --from=web-test /web/report.xml /web.xml
FROM debian:bookworm-slim AS final
COPY --from=4 /api/server /server
COPY --from=WEB /web/dist /static
CMD ["/server", "--static=/static"]
