# shellcheck shell=bash
# The fresh root file systems in which clean_room.sh and guest_tests.sh run make's targets: how one is made from the mirror
# that this machine's apt uses, what the machine lends it, and how it is entered. To be sourced, from the top of the clone.
source scripts/apt_sources.sh

say() { printf '%s\n' "$1" >&2; }

fail() {
    say "${0##*/}: $1"
    exit 1
}

suite_of() {
    case $1 in
    debian-12) echo bookworm ;;
    debian-13) echo trixie ;;
    debian-sid) echo sid ;;
    ubuntu-24.04) echo noble ;;
    *) return 1 ;;
    esac
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

# make_root SUITE TAR WORK [PACKAGE,…]
make_root() {
    local suite=$1 tar=$2 work=$3 sources
    local packages=git,make,python3,ca-certificates${4:+,$4}
    sources=$(sources_of "$suite")
    scripts/packages.sh install '(makes the root)' mmdebstrap
    say "making a fresh $suite root (half a minute or more, once a week)"
    settings_of_apt >"$work/apt.conf"
    mmdebstrap --quiet --variant=apt --include="$packages" --aptopt="$work/apt.conf" \
        --format=tar "$suite" "$tar.part" - <<<"$sources" >"$work/log" 2>&1 || {
        tail -20 "$work/log" >&2
        fail "mmdebstrap could not make the root (above is the end of what it said)"
    }
    mv "$tar.part" "$tar"
}

# unpack_root SUITE TAR ROOT WORK [PACKAGE,…]: made where there is none of this week, and unpacked with a clone of what is
# committed; in $root, where the rest finds it
unpack_root() {
    local suite=$1 tar=$2 work=$4
    root=$3
    rm -rf --one-file-system "$root"
    [[ -n $(find "$tar" -mtime -7 2>/dev/null) ]] || make_root "$suite" "$tar" "$work" "${5-}"
    mkdir -p "$root"
    tar --extract --file "$tar" --directory "$root" --numeric-owner --xattrs --xattrs-include='*'
    lend_settings
    git clone --quiet --no-local "file://$PWD" "$root/root/wherry"
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

# Process 1 of the namespaces; $1 is the root, $2 what is lent, "$@" after them the targets. The mounts are this process's own.
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
hostname room
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


# run_in_root TARGET…
run_in_root() {
    local kept=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin) variable
    while IFS= read -r -d '' variable; do
        case $variable in
        TERM=* | CI=* | PIP_*=* | *_proxy=* | *_PROXY=* | PYTEST_ARGUMENTS=* | WHERRY_TEST_*=*) kept+=("$variable") ;;
        esac
    done < <(env --null)
    env --ignore-environment "${kept[@]}" unshare --mount --pid --uts --ipc --fork --kill-child -- \
        bash -c "$enter" room "$root" "$(places_of_pip)" "$@" 8<&- 9>&-
}
