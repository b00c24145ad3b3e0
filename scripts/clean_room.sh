#!/usr/bin/env bash
# Runs make's targets as a newcomer does: in a fresh root file system that has git, make, python3, ca-certificates and
# apt's sources, and nothing else.
#
#   clean_room.sh DISTRIBUTION [TARGET…]    debian-12, debian-13, debian-sid or ubuntu-24.04; "demo demo test" unless
#                                           targets are given
#
# The root is made from the mirror that this machine's apt uses, kept below .cache/rooms and renewed when it is a week old.
# Every run unpacks it anew and enters it with mount, process, host name and IPC namespaces of its own, by pivot_root: what
# the targets start and mount ends with the run. What the machine needs to reach its registries comes along: apt's settings
# and credentials, pip's, certificates, name servers and proxies. So does the network, which apt and pip need. Where apt here
# has no source of Ubuntu's, the root of Ubuntu is one of Debian that goes by that name, as does its archive.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/room.sh

# The root's own name and that of its archive, which is served here for as long as the room is there
stand_in_for_ubuntu() {
    local mirror address keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    say "apt on this machine has no source of Ubuntu's: a Debian goes by its name"
    scripts/packages.sh install '(signs the archive that goes by the name of Ubuntu)' gpg
    mirror=$(distribution_sources | archive_of_debian)
    exec 8< <(exec python3 scripts/ubuntu_archive.py "$mirror" "$suite" "$root$keyring")
    archive=$!
    read -r address <&8 || fail "the archive that goes by the name of Ubuntu could not be made"
    rm -f "$root"/etc/apt/sources.list.d/*
    printf 'deb [signed-by=%s] %s noble main\n' "$keyring" "$address" >"$root/etc/apt/sources.list"
    cat >"$root/usr/lib/os-release" <<'END'
PRETTY_NAME="Ubuntu 24.04 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
END
}

[[ $(id -u) == 0 ]] || fail "a clean room needs root"
suite=$(suite_of "${1-}") || fail "usage: clean_room.sh debian-12 | debian-13 | debian-sid | ubuntu-24.04 [TARGET…]"
distribution_sources_updated >/dev/null || fail "apt on this machine has neither Debian's nor Ubuntu's archive"
stand_in=
[[ $suite != noble || -n $(source_lines noble) ]] || suite=trixie stand_in=yes
rooms=$PWD/.cache/rooms
place=$rooms/$1
shift
(($#)) || set -- demo demo test

mkdir -p "$rooms"
exec 9>"$rooms/$suite.lock"
flock 9 # one run at a time of a suite; a killed one's root is removed by the next
work=$(mktemp -d)
archive=
trap 'rm -rf "$work"; rm -rf --one-file-system "$place"; [[ -z $archive ]] || kill "$archive"' EXIT
unpack_root "$suite" "$rooms/$suite.tar" "$place" "$work"
[[ -z $stand_in ]] || stand_in_for_ubuntu
run_in_root "$@"
