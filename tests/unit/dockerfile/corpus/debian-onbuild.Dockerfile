FROM debian:bookworm AS base
ONBUILD ARG greeting=hi
ONBUILD RUN echo "$greeting" > /greeting
ONBUILD ENV FROM_BASE=1

FROM base
RUN test "$(cat /greeting)" = hi && test "$FROM_BASE" = 1
