FROM debian:bookworm AS toolchain
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && apt-get clean

FROM toolchain AS build
WORKDIR /usr/src/app
COPY <<"EOF" Makefile
app: main.o sum.o
	$(CC) -o $@ $^
install: app
	install -D -m 755 app $(DESTDIR)/usr/local/bin/app
EOF
COPY <<EOF main.c
#include <stdio.h>
int sum(int a, int b);
int main(void) { printf("%d\\n", sum(40, 2)); return 0; }
EOF
COPY <<EOF sum.c
int sum(int a, int b) { return a + b; }
EOF
RUN make && make install DESTDIR=/out

FROM debian:bookworm
COPY --from=build /out/ /
RUN test "$(app)" = 42
CMD ["app"]
