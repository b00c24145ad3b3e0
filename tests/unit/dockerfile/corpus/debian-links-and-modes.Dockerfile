FROM debian:bookworm AS files
RUN mkdir -p /tree/a/b /tree/empty \
 && echo one > /tree/a/one && chmod 600 /tree/a/one \
 && echo two > /tree/a/b/two && chmod 4755 /tree/a/b/two \
 && ln -s ../one /tree/a/b/link && ln -s /nowhere /tree/dangling \
 && ln /tree/a/one /tree/hard \
 && mkfifo /tree/pipe \
 && chown -R 12:34 /tree/a/b

FROM debian:bookworm
COPY --from=files /tree /copy
COPY --from=files --chown=daemon:daemon /tree/a /owned/
COPY --from=files --chmod=0644 /tree/a/one /tree/a/b/two /modes/
COPY --from=files --link /tree/a/one /linked/one
RUN rm -r /copy/empty && ln -s one /copy/a/again
