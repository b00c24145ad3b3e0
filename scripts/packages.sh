#!/usr/bin/env bash
# Brings what wherry needs from Debian, and asks for nothing that is there already.
#
#   packages.sh install WHY PACKAGE…           installs those that are missing (root only; otherwise says what to install)
#   packages.sh extract PACKAGE MEMBER FILE    copies one file out of a package, without installing the package;
#                                              PACKAGE/sid is Debian unstable's, from the mirror that the machine uses
#
# "extract" is how the tests get the docker CLI and a static busybox: installing those packages would start a Docker
# daemon, or replace the machine's own busybox.
set -euo pipefail
source "${BASH_SOURCE%/*}/apt_sources.sh"

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

installed() {
    [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# A name that some package only suggests is none that can be had: "apt-cache show" exits with 0 for it too
known() {
    local policy
    policy=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null)
    [[ $policy == *"Candidate: "[^\(]* ]]
}

# A fresh machine's package lists are empty. A third-party list that cannot be fetched is no reason to give up:
# whether the packages can be had is seen right after.
refresh_lists_unless_known() {
    local package
    for package; do
        known "$package" && continue
        [[ $(id -u) == 0 ]] || fail "apt does not know $package: run 'apt-get update' as root first"
        printf 'apt does not know %s yet: apt-get update\n' "$package" >&2
        apt-get update --quiet=2 >&2 || true
        return
    done
}

install() {
    local why=$1 missing=() package said
    for package in "${@:2}"; do
        installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    [[ $(id -u) == 0 ]] || fail "missing $why: ${missing[*]}. As root: apt-get install ${missing[*]}"
    refresh_lists_unless_known "${missing[@]}"
    printf 'installing %s %s\n' "${missing[*]}" "$why" >&2
    said=$(DEBIAN_FRONTEND=noninteractive apt-get install --option DPkg::Lock::Timeout=300 \
        --yes --quiet=2 --no-install-recommends "${missing[@]}" 2>&1) || {
        printf '%s\n' "$said" >&2
        fail "apt-get could not install ${missing[*]}"
    }
}

# Debian unstable's package lists, in a folder of their own: apt is told of it in $apt
lists_of_unstable() {
    local mirror said
    mirror=$(distribution_sources_updated | archive_of_debian)
    [[ -n $mirror ]] || fail "apt on this machine has no Debian source"
    mkdir -p "$1"/{lists/partial,cache/archives/partial}
    source_line Debian "$mirror" sid main check-valid-until=no >"$1/sources.list" # a mirror may be a snapshot
    apt+=(--option "Dir::Etc::SourceList=$1/sources.list" --option Dir::Etc::SourceParts=/dev/null
        --option "Dir::State::Lists=$1/lists" --option "Dir::Cache=$1/cache")
    said=$("${apt[@]}" update 2>&1) || fail "apt-get could not update the lists of Debian unstable: $said"
}

extract() {
    local package=${1%/sid} member=$2 file=$3 work said apt=(apt-get --quiet=2 --option APT::Sandbox::User=root)
    [[ -e $file ]] && return
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # the directory of now, not of later
    trap "rm -rf '$work'" EXIT
    if [[ $1 == */sid ]]; then
        lists_of_unstable "$work/apt"
    else
        refresh_lists_unless_known "$package"
    fi
    # apt's own user cannot write here, and apt checks what it downloads either way
    said=$(cd "$work" && "${apt[@]}" download "$package" 2>&1) || fail "apt-get could not download $package: $said"
    dpkg-deb --extract "$work"/*.deb "$work"
    [[ -e $work$member ]] || member=/usr$member # Debian moved /bin to /usr/bin in trixie
    [[ -e $work$member ]] || fail "$package has no ${member#/usr}"
    mkdir -p "$(dirname "$file")"
    cp "$work$member" "$file.part"
    mv "$file.part" "$file"
}

command -v apt-get >/dev/null || fail "this machine has no apt-get: install the packages of docs/development.md yourself"

case "${1-} $#" in
"install "*) install "${@:2}" ;;
"extract 4") extract "${@:2}" ;;
*) fail "usage: packages.sh install WHY PACKAGE… | extract PACKAGE MEMBER FILE" ;;
esac
