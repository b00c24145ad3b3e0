FROM debian:bookworm
COPY --chmod=755 <<'EOF' /usr/local/bin/docker-entrypoint.sh
#!/bin/sh
set -e
if [ "${1#-}" != "$1" ]; then
    set -- sleep "$@"
fi
exec "$@"
EOF
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["sleep", "infinity"]
