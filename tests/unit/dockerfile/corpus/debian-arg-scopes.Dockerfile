ARG SUITE=bookworm
ARG IMAGE=debian:${SUITE}
FROM ${IMAGE} AS one
ARG SUITE
ARG LOCAL="from ${SUITE}"
RUN test "$LOCAL" = "from bookworm"
FROM ${IMAGE}
ARG SUITE=other
ARG TARGETPLATFORM TARGETARCH
RUN test "$SUITE" = other && test -n "$TARGETARCH" && echo "$TARGETPLATFORM" > /platform
COPY --from=one /etc/debian_version /one
