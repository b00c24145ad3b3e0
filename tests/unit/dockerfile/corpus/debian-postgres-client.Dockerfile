FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-client && rm -rf /var/lib/apt/lists/*
ENV PGHOST=db PGUSER=postgres
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m --start-interval=2s --retries=5 \
  CMD pg_isready -q || exit 1
ENTRYPOINT ["psql"]
