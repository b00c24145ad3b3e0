FROM debian:bookworm
COPY . /app/
COPY ["with space/file name", "another file", "/dest dir/"]
COPY a.txt b.txt c*.txt d?.txt [e-g].txt /texts/
COPY --chown=1000:1000 --chmod=u=rwX,go=rX src /src
COPY --parents ./x/./y/*.txt ./z/ /parents/
COPY --link --exclude=*.tmp --exclude=**/node_modules web /web
COPY --from=busybox:musl /bin/busybox /bin/busybox
ADD --chown=www-data:www-data site.tar.gz /var/www/
ADD --link=false single /single
