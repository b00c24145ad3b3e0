FROM debian:bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY <<EOF hello.c
#include <stdio.h>
int main(void) { puts("hello from a stage"); return 0; }
EOF
RUN gcc -O2 -static -o /hello hello.c

FROM scratch
COPY --from=build /hello /hello
ENTRYPOINT ["/hello"]
