#!/usr/bin/env bash
# Builds the machine code that runs in containers (src/wherry/runtime/native), for each architecture that there is a
# compiler for. It lies beside its source, as wherry is installed where there is none.
set -euo pipefail
cd "$(dirname "$0")/../src/wherry/runtime/native"

source=$(sha256sum <wherry-init.c | cut -d' ' -f1)
for machine in ${1:-x86_64 aarch64 riscv64 loongarch64}; do
    compiler=$(command -v "$machine-linux-gnu-gcc" || command -v "$machine-linux-gnu-gcc-14" || true)
    [[ -n $compiler ]] || { echo "$machine: no compiler (gcc-${machine/_/-}-linux-gnu)" >&2; continue; }
    "$compiler" -std=gnu11 -Os -Wall -Wextra -Werror -ffreestanding -fno-pie -fno-stack-protector -fno-unwind-tables \
        -fno-asynchronous-unwind-tables -nostdlib -static -no-pie -s "-DSOURCE=\"$source\"" \
        -Wl,--build-id=none,-z,noexecstack,-z,noseparate-code,-z,max-page-size=4096 \
        -o "${2:-wherry-init.$machine}" wherry-init.c
done
