FROM debian:bookworm
ENV NAME=app VERSION=1.2.3
ENV MAJOR=${VERSION%%.*} REST=${VERSION#*.} DASHED=${VERSION//./-} DIR=/opt/${NAME:-none}
ENV QUOTED="a \"b\" \$NAME" SINGLE='$NAME' ESCAPED=a\ b LEGACY=${NOPE:+x}y
WORKDIR ${DIR}
LABEL version="$VERSION" dir=$DIR
EXPOSE ${PORT:-8080} 53/udp 9000-9002
VOLUME ["${DIR}/data"]
RUN test "$MAJOR" = 1 && test "$REST" = 2.3 && test "$DASHED" = 1-2-3 && test "$PWD" = /opt/app
