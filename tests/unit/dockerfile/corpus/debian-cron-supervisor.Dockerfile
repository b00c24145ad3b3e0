FROM debian:bookworm
RUN set -eux; \
    apt-get update; \
    apt-get install -y --no-install-recommends cron supervisor; \
    rm -rf /var/lib/apt/lists/*; \
    mkdir -p /var/log/supervisor
COPY <<EOF /etc/supervisor/conf.d/cron.conf
[supervisord]
nodaemon=true

[program:cron]
command=/usr/sbin/cron -f
EOF
CMD ["/usr/bin/supervisord", "-c", "/etc/supervisor/supervisord.conf"]
