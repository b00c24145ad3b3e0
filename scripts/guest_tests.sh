#!/usr/bin/env bash
# Runs the tests in a virtual machine, on what nearly every user has and the machine at hand may lack: systemd as process 1,
# cgroups of version 2 alone, a distribution's own kernel, AppArmor.
#
#   guest_tests.sh debian-12 | debian-13 [ARGUMENT…]    pytest's arguments; the tests of containers unless given
#
# The guest's root is a room's (clean_room.sh) with systemd and a cloud kernel: packages, Python and fixtures come into it
# before it starts, as it has no network. What its console said stays below .cache/guests. QEMU emulates the processor unless
# WHERRY_GUEST_ACCELERATOR says what else to use (kvm): count ten to twenty times as long.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/room.sh

packages=systemd-sysv,dbus,udev,kmod,apparmor,linux-image-cloud-amd64
[[ $(id -u) == 0 ]] || fail "making a guest needs root"
[[ $(uname -m) == x86_64 ]] || fail "guests are made for x86_64 only"
case ${1-} in
debian-12 | debian-13) suite=$(suite_of "$1") ;;
*) fail "usage: guest_tests.sh debian-12 | debian-13 [ARGUMENT…]" ;;
esac
guests=$PWD/.cache/guests
place=$guests/$1 disk=$guests/$1.ext4
shift
(($#)) || set -- tests/integration tests/clients tests/security

scripts/packages.sh install '(emulates a machine)' qemu-system-x86 e2fsprogs
mkdir -p "$guests"
exec 9>"$guests/$suite.lock"
flock 9
work=$(mktemp -d)
trap 'rm -rf "$work" "$disk"; rm -rf --one-file-system "$place"' EXIT
unpack_root "$suite" "$guests/$suite.tar" "$place" "$work" "$packages"
run_in_root fixtures >&2

printf 'wherry-guest\n' >"$root/etc/hostname"
printf '%q ' "$@" >"$root/root/arguments"
cat >"$root/root/tests" <<'END'
#!/bin/bash
cd /root/wherry
export HOME=/root CI=true NO_COLOR=1 WHERRY_TEST_PATIENCE=20 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
printf 'Linux %s, %s, process 1 is %s\n' "$(uname -r)" "$(stat -f -c %T /sys/fs/cgroup)" "$(</proc/1/comm)"
eval ".venv/bin/python -m pytest -o timeout=1800 -p no:cacheprovider $(</root/arguments)"
echo $? >/root/status
systemctl poweroff
END
chmod +x "$root/root/tests"
cat >"$root/etc/systemd/system/tests.service" <<'END'
[Service]
Type=oneshot
ExecStart=/root/tests
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
TimeoutStartSec=infinity
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../tests.service "$root/etc/systemd/system/multi-user.target.wants/"

cp "$root"/boot/vmlinuz-* "$work/kernel"
cp "$root"/boot/initrd.img-* "$work/initrd"
mke2fs -q -t ext4 -d "$root" "$disk" 12G
rm -rf --one-file-system "$root"
qemu-system-x86_64 -accel "${WHERRY_GUEST_ACCELERATOR:-tcg}" -cpu max -smp 2 -m 3G -nographic -no-reboot -monitor none -net none \
    -kernel "$work/kernel" -initrd "$work/initrd" -append 'root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0' \
    -drive "file=$disk,if=virtio,format=raw,cache=unsafe" -serial "file:$guests/$suite.console" -serial stdio </dev/null
status=$(debugfs -R 'cat /root/status' "$disk" 2>/dev/null)
[[ -n $status ]] || fail "the guest ended before the tests did: see $guests/$suite.console"
exit "$status"
