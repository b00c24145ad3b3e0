FROM debian:bookworm
RUN echo one \
 && echo two
COPY <<EOF /etc/crlf.txt
line
EOF
CMD ["cat", "/etc/crlf.txt"]
