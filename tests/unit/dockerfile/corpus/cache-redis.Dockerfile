FROM debian:bookworm-slim
ENV REDIS_VERSION=7.2.5 REDIS_SHA=5981179706f8391f03be91d951acafaeda91af7fac56beffb2701963103e423d
RUN set -eux; \
    wget -O redis.tar.gz "https://example.org/redis-$REDIS_VERSION.tar.gz"; \
    echo "$REDIS_SHA *redis.tar.gz" | sha256sum -c -; \
    grep -E '^ *createBoolConfig[(]"protected-mode",.*, *1 *,.*[)],$' /usr/src/redis/src/config.c; \
    sed -ri 's!^( *createBoolConfig[(]"protected-mode",.*, *)1( *,.*[)],)$!\10\2!' /usr/src/redis/src/config.c
RUN mkdir /data && chown 999:999 /data
VOLUME /data
WORKDIR /data
EXPOSE 6379
CMD ["redis-server"]
