FROM debian:bookworm AS rootfs
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/*
RUN mkdir -p /rootfs/bin /rootfs/tmp /rootfs/etc && cp /bin/busybox /rootfs/bin/ \
 && for applet in sh ls cat echo; do ln -s busybox /rootfs/bin/$applet; done \
 && echo 'root:x:0:0:root:/:/bin/sh' > /rootfs/etc/passwd && chmod 1777 /rootfs/tmp

FROM scratch
COPY --from=rootfs /rootfs /
ENV PATH=/bin
CMD ["sh"]
