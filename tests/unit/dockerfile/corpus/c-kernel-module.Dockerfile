FROM debian:bookworm
RUN apt-get update && apt-get install -y linux-headers-amd64 build-essential kmod && apt-get clean
WORKDIR /usr/src/module
COPY Makefile *.c *.h ./
RUN --security=insecure make -C /lib/modules/$(ls /lib/modules | tail -n1)/build M=$PWD modules
