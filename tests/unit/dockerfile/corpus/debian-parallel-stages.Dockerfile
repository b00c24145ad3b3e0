FROM debian:bookworm AS base
RUN echo base > /base

FROM base AS left
RUN sleep 1; echo left > /left

FROM base AS right
RUN sleep 1; echo right > /right

FROM base AS never
RUN false

FROM base
COPY --from=left /left /
COPY --from=right /right /
