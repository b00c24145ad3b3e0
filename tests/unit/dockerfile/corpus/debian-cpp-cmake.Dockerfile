# syntax=docker/dockerfile:1
ARG DEBIAN=bookworm
FROM debian:${DEBIAN} AS builder
ARG BUILD_TYPE=Release
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && \
    apt-get update && \
    apt-get install -y --no-install-recommends cmake g++ make
WORKDIR /src
COPY <<EOF CMakeLists.txt
cmake_minimum_required(VERSION 3.20)
project(greet CXX)
add_executable(greet main.cpp)
install(TARGETS greet DESTINATION bin)
EOF
COPY <<EOF main.cpp
#include <iostream>
int main() { std::cout << "greetings" << std::endl; }
EOF
RUN cmake -S . -B build -DCMAKE_BUILD_TYPE=${BUILD_TYPE} && cmake --build build && cmake --install build --prefix /opt/greet

FROM debian:${DEBIAN}
COPY --from=builder /opt/greet /opt/greet
ENV PATH=/opt/greet/bin:$PATH
CMD ["greet"]
