FROM debian:bookworm AS base
HEALTHCHECK CMD true
CMD ["sleep", "1000"]

FROM base
HEALTHCHECK NONE
ENTRYPOINT []
