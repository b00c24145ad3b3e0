#!/usr/bin/env bash
# Builds the machine code, for each architecture that there is a compiler for: what runs in containers
# (src/wherry/runtime/native), and what runs in the monitor (src/wherry/linux/native). It lies beside its source, as
# wherry is installed where there is no compiler.
#
#     scripts/native.sh [MACHINE [DIRECTORY]]
set -euo pipefail
cd "$(dirname "$0")/../src/wherry"

flags=(-std=gnu11 -Os -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-unwind-tables
    -fno-asynchronous-unwind-tables -nostdlib -s -Ilinux/native
    -Wl,--build-id=none,-z,noexecstack,-z,noseparate-code,-z,norelro)

source_of() {
    cat "$1" linux/native/system-call.h | sha256sum | cut -d' ' -f1
}

for machine in ${1:-x86_64 aarch64 riscv64 loongarch64}; do
    compiler=$(command -v "$machine-linux-gnu-gcc" || command -v "$machine-linux-gnu-gcc-14" || true)
    [[ -n $compiler ]] || { echo "$machine: no compiler (gcc-${machine/_/-}-linux-gnu)" >&2; continue; }
    own=()
    [[ $machine != aarch64 ]] || own=(-mno-outline-atomics)
    "$compiler" "${flags[@]}" "${own[@]}" -static -no-pie -fno-pie -Wl,-z,max-page-size=4096 "-DSOURCE=\"$(source_of runtime/native/wherry-init.c)\"" \
        -o "${2:-runtime/native}/wherry-init.$machine" runtime/native/wherry-init.c
    "$compiler" "${flags[@]}" "${own[@]}" -shared -fpic -fvisibility=hidden "-DSOURCE=\"$(source_of linux/native/child.c)\"" \
        -o "${2:-linux/native}/child.$machine.so" linux/native/child.c
done
