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
source scripts/apt_sources.sh

say() { printf '%s\n' "$1" >&2; }

fail() {
    say "${0##*/}: $1"
    exit 1
}

# --- the root ---

# The suite's sources as this machine's apt has them; or, of a suite that it does not have, the archive of one that it has
sources_of() {
    local suite=$1 lines mirror option=''
    lines=$(source_lines "$suite")
    if [[ -z $lines ]]; then
        mirror=$(distribution_sources | archive_of_debian)
        [[ -n $mirror ]] || fail "apt on this machine has no Debian source"
        [[ $suite != sid ]] || option=check-valid-until=no # some mirrors are snapshots, whose date has passed
        lines=$(source_line Debian "$mirror" "$suite" main "$option")
    fi
    printf '%s\n' "$lines"
}

make_root() {
    local suite=$1 tar=$2 work=$3 sources
    sources=$(sources_of "$suite")
    scripts/packages.sh install '(makes the root)' mmdebstrap
    say "making a fresh $suite root (half a minute, once a week)"
    settings_of_apt >"$work/apt.conf"
    mmdebstrap --quiet --variant=apt --include=git,make,python3,ca-certificates --aptopt="$work/apt.conf" \
        --format=tar "$suite" "$tar.part" - <<<"$sources" >"$work/log" 2>&1 || {
        tail -20 "$work/log" >&2
        fail "mmdebstrap could not make the root (above is the end of what it said)"
    }
    mv "$tar.part" "$tar"
}

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

# --- what the machine lends ---

# copy_to PLACE PATH: into the root, if there is such a path
copy_to() {
    [[ -e $2 ]] || return 0
    mkdir -p "$root$(dirname "$1")"
    cp --recursive --dereference --no-target-directory "$2" "$root$1"
}

copy() {
    local path
    for path; do copy_to "$path" "$path"; done
}

lend_settings() {
    local folders
    copy /etc/resolv.conf /etc/apt/auth.conf /etc/apt/auth.conf.d /usr/local/share/ca-certificates
    settings_of_apt >"$root/etc/apt/apt.conf.d/90machine"
    IFS=: read -r -a folders <<<"${XDG_CONFIG_DIRS:-/etc/xdg}"
    copy /etc/pip.conf "${folders[@]/%//pip}" ${PIP_CONFIG_FILE:+"$PIP_CONFIG_FILE"}
    copy_to /root/.config/pip "$HOME/.config/pip"
    copy_to /root/.pip "$HOME/.pip"
}

# The folders and files on this machine that pip's settings name: certificates, constraints, wheels, an index. Pages of an
# index point beside themselves, so the folder around it comes along.
places_of_pip() {
    local path
    {
        env | sed -n 's/^PIP_[A-Z_]*=//p'
        find "$root"/{etc/pip.conf,etc/xdg/pip,root/.config/pip,root/.pip} -type f -exec cat {} + 2>/dev/null
    } | grep --only-matching --perl-regexp '(?<![^\s=])(file://)?/[^\s,]+' | sort -u |
        while read -r path; do
            [[ $path != file://* ]] || path=$(dirname "${path#file://}")
            [[ $path == / || ! -e $path || -e $root$path ]] || printf '%s\n' "$path"
        done
}

# --- inside ---

# Process 1 of the namespaces; $1 is the root, "$@" after it the targets. The mounts are this process's own.
# shellcheck disable=SC2016 # it expands inside
enter='
set -euo pipefail
root=$1 places=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
for kernel in /sys /dev; do mount --rbind "$kernel" "$root$kernel"; done
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t tmpfs -o mode=755 run "$root/run"
while read -r place; do
    [[ -n $place ]] || continue
    if [[ -d $place ]]; then mkdir -p "$root$place"; else mkdir -p "$root${place%/*}" && : >"$root$place"; fi
    mount --bind "$place" "$root$place"
    mount -o remount,bind,ro "$root$place"
done <<<"$places"
hostname clean-room
cd "$root"
pivot_root . .
python3 -c "import ctypes, sys; sys.exit(ctypes.CDLL(None).umount2(b\".\", 2))" # MNT_DETACH: mount(8) is not in every root
cd /root/wherry
update-ca-certificates >/dev/null 2>&1
for target; do
    begun=${EPOCHREALTIME/./}
    printf "\n# make %s\n" "$target"
    make "$target" || exit
    took=$(((${EPOCHREALTIME/./} - begun) / 100000))
    times+="make $target: $((took / 10)).$((took % 10)) s"$'\''\n'\''
    printf "\n%s" "$times"
done
'

[[ $(id -u) == 0 ]] || fail "a clean room needs root"
case "${1-}" in
debian-12) suite=bookworm ;;
debian-13) suite=trixie ;;
debian-sid) suite=sid ;;
ubuntu-24.04) suite=noble ;;
*) fail "usage: clean_room.sh debian-12 | debian-13 | debian-sid | ubuntu-24.04 [TARGET…]" ;;
esac
distribution_sources_updated >/dev/null || fail "apt on this machine has neither Debian's nor Ubuntu's archive"
stand_in=
[[ $suite != noble || -n $(source_lines noble) ]] || suite=trixie stand_in=yes
rooms=$PWD/.cache/rooms
tar=$rooms/$suite.tar root=$rooms/$1
shift
(($#)) || set -- demo demo test

mkdir -p "$rooms"
exec 9>"$rooms/$suite.lock"
flock 9 # one run at a time of a suite; a killed one's root is removed by the next
work=$(mktemp -d)
archive=
trap 'rm -rf "$work"; rm -rf --one-file-system "$root"; [[ -z $archive ]] || kill "$archive"' EXIT
rm -rf --one-file-system "$root"
[[ -n $(find "$tar" -mtime -7 2>/dev/null) ]] || make_root "$suite" "$tar" "$work"

mkdir -p "$root"
tar --extract --file "$tar" --directory "$root" --numeric-owner --xattrs --xattrs-include='*'
lend_settings
[[ -z $stand_in ]] || stand_in_for_ubuntu
git clone --quiet --no-local "file://$PWD" "$root/root/wherry"

kept=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
while IFS= read -r -d '' variable; do
    case $variable in
    TERM=* | CI=* | PIP_*=* | *_proxy=* | *_PROXY=* | PYTEST_ARGUMENTS=* | WHERRY_TEST_*=*) kept+=("$variable") ;;
    esac
done < <(env --null)
env --ignore-environment "${kept[@]}" unshare --mount --pid --uts --ipc --fork --kill-child -- \
    bash -c "$enter" clean-room "$root" "$(places_of_pip)" "$@" 8<&- 9>&-
