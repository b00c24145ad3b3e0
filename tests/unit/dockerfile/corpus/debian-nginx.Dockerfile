FROM debian:bookworm
LABEL org.opencontainers.image.title="web" \
      org.opencontainers.image.description="A web server with one page" \
      maintainer="web@example.org"
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/*
RUN ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
COPY <<EOF /var/www/html/index.html
<!doctype html>
<title>It works</title>
EOF
COPY <<'EOF' /etc/nginx/conf.d/real-ip.conf
set_real_ip_from 10.0.0.0/8;
log_format short '$remote_addr "$request" $status';
EOF
EXPOSE 80/tcp
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
