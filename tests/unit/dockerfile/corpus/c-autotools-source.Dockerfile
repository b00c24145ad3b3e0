FROM debian:bookworm AS build
ARG ZLIB_VERSION=1.3.1
ARG ZLIB_SHA256=9a93b2b7dfdac77ceba5a558a580e74667dd6fede4585b91eefb60f03b72df23
RUN apt-get update && apt-get install -y --no-install-recommends build-essential
ADD --checksum=sha256:${ZLIB_SHA256} https://zlib.example.org/zlib-${ZLIB_VERSION}.tar.gz /src/
RUN tar -C /src -xzf /src/zlib-${ZLIB_VERSION}.tar.gz --strip-components=1 \
 && cd /src && ./configure --prefix=/usr/local && make -j"$(nproc)" && make install DESTDIR=/out

FROM debian:bookworm
COPY --from=build /out/usr/local /usr/local
RUN ldconfig
