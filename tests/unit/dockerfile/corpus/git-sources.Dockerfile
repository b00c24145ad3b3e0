# syntax=docker/dockerfile:1
FROM debian:bookworm AS fetch
ADD https://git.example.org/tools/tool.git#v1.2.0 /tool
ADD --keep-git-dir=true git@git.example.org:team/app.git#main:sub/dir /app
ADD https://example.org/archive.tar.gz /archive/
ADD --unpack=true https://example.org/rootfs.tar.xz /rootfs/
ADD local.tar.bz2 /local/

FROM debian:bookworm
COPY --from=fetch /tool /tool
COPY --from=fetch /rootfs/ /
