#!/usr/bin/env bash
# Makes what the tests and the benchmark use beside Python, below .cache, once: two base images, each as the tar of a root
# file system and as an archive that every engine can load; the root file systems of two other architectures; and the
# docker CLI, a registry and an emulator when the machine has none.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
mkdir -p .cache
if [[ ! -w .cache ]]; then
    echo "going on with what is in .cache, which belongs to another user" >&2
    exit
fi
exec 9>.cache/lock
flock 9 # two at once would write the same files

scripts/packages.sh install '(the tests use them)' openssl mount procps iproute2 e2fsprogs git nftables iptables uidmap passt ||
    echo "going on without them: the tests that need them are skipped" >&2

if [[ ! -e .cache/busybox.image.tar ]]; then
    scripts/packages.sh extract busybox-static /bin/busybox .cache/busybox
    $python scripts/busybox_image.py .cache/busybox .cache/busybox.tar
    $python scripts/image_archive.py .cache/busybox.tar .cache/busybox.image.tar busybox:latest sh
fi

if tar=$(scripts/base_image.sh); then
    name=$(basename "$tar" .tar)
    [[ -e .cache/$name.image.tar ]] ||
        $python scripts/image_archive.py "$tar" ".cache/$name.image.tar" "${name/-/:}" bash
else
    echo "going on without a Debian image: the tests that need it are skipped" >&2
fi

# The tests know what today's docker CLI says. Debian's releases have older ones; Ubuntu's docker.io is of today.
scripts/packages.sh extract docker-cli/sid /usr/bin/docker .cache/docker/docker 2>/dev/null ||
    scripts/packages.sh extract docker.io /usr/bin/docker .cache/docker/docker ||
    echo "going on without a docker CLI: the tests that need it are skipped" >&2

if [[ ! -e .cache/docker-config/cli-plugins/docker-buildx ]]; then
    # from trixie on
    scripts/packages.sh extract docker-buildx /usr/libexec/docker/cli-plugins/docker-buildx \
        .cache/docker-config/cli-plugins/docker-buildx 2>/dev/null ||
        echo "going on without buildx: the tests that need it are skipped" >&2
fi

if ! command -v docker-registry >/dev/null; then
    scripts/packages.sh extract docker-registry /usr/bin/docker-registry .cache/docker-registry/docker-registry ||
        echo "going on without a registry: the tests that need one are skipped" >&2
fi

emulator=qemu-aarch64-static
if ! command -v $emulator >/dev/null; then
    # from trixie on qemu-user has it, under another name
    scripts/packages.sh extract qemu-user-static /usr/bin/$emulator .cache/$emulator/$emulator 2>/dev/null ||
        scripts/packages.sh extract qemu-user /usr/bin/qemu-aarch64 .cache/$emulator/$emulator ||
        echo "going on without an emulator of arm64: the tests that need one are skipped" >&2
fi

for architecture in i386 arm64; do
    scripts/base_image.sh $architecture >/dev/null ||
        echo "going on without a Debian for $architecture: the tests that need it are skipped" >&2
done

if ! command -v docker-compose >/dev/null; then
    scripts/packages.sh install '(a client that is tested)' docker-compose ||
        echo "going on without docker-compose: the tests that need it are skipped" >&2
fi
