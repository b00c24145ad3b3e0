#!/usr/bin/env bash
# Makes the root file system of a Debian base image as a tar, with no registry: mmdebstrap fetches the packages from the
# Debian mirror that this machine's apt uses. Prints the tar's path; a tar that is there already is used again.
#
# The suite is bookworm when the machine's apt offers it, and the machine's own otherwise. The content is that of the
# official image: the essential packages and apt, a merged /usr, and apt set up to leave nothing behind in a layer.
#
#   base_image.sh [ARCHITECTURE]    for another than this machine's: only a shell, dpkg and coreutils, not set up
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$1" >&2; }

fail() {
    say "${0##*/}: $1"
    exit 1
}

# suite, URL, release and component of each Debian source; the machine's other sources (third parties') are left out
# shellcheck disable=SC2016 # the names are apt's
debian_sources() {
    apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/^Debian|//p' | sort -u
}

# mmdebstrap reads none of the machine's apt.conf: what says how to reach the mirror is handed on
reaching_the_mirror() {
    apt-config dump --format '%F "%v";%n' Acquire |
        grep -E '^Acquire::(https?|ftp|Check-|Retries|Force|Queue|Proxy)' | grep -v ' "";$' || true
}

# The newest of the archive's own dates, so that the same packages give the same bytes
date_of_archive() {
    sed -n 's/^Date: //p' /var/lib/apt/lists/*_*Release 2>/dev/null |
        while read -r date; do date --date "$date" +%s; done | sort -n | tail -1
}

# $1 is the root. Settings of the official images: docker-library documents why each is there.
customize=$(
    cat <<'HOOK'
set -e
conf=$1/etc/apt/apt.conf.d
rm -f "$conf"/99mmdebstrap
printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
clean='rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true'
cat >"$conf/docker-clean" <<END
DPkg::Post-Invoke { "$clean"; };
APT::Update::Post-Invoke { "$clean"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
echo 'Acquire::Languages "none";' >"$conf/docker-no-languages"
echo 'Acquire::GzipIndexes "true";' >"$conf/docker-gzip-indexes"
echo 'Apt::AutoRemove::SuggestsImportant "false";' >"$conf/docker-autoremove-suggests"
: >"$1/etc/machine-id"
rm -f "$1/etc/hostname" "$1/etc/resolv.conf"
HOOK
)

folder=$PWD/.cache${1+/$1}
for tar in "$folder"/debian-*.tar; do
    [[ -e $tar && $tar != *.image.tar ]] || continue
    printf '%s\n' "$tar"
    exit
done

command -v apt-get >/dev/null || fail "this machine has no apt: put a root file system's tar at .cache/debian-bookworm.tar"
sources=$(debian_sources)
if [[ -z $sources ]]; then
    [[ $(id -u) == 0 ]] || fail "apt has no package lists: run 'apt-get update' as root first"
    apt-get update --quiet=2 >&2 || true # a third party's source may fail
    sources=$(debian_sources)
fi
[[ -n $sources ]] || fail "apt on this machine has no Debian source"

suite=bookworm
if ! grep -q "^$suite|" <<<"$sources"; then
    suite=$(cut -d'|' -f1 <<<"$sources" | grep -v -- - | head -1)
    say "apt on this machine has no Debian bookworm: the base image will be $suite"
fi

tar=$folder/debian-$suite.tar
[[ $(id -u) == 0 ]] || fail "making the base image needs root, once"
scripts/packages.sh install '(makes the base image)' mmdebstrap
mkdir -p "$folder"
say "making the Debian $suite base image${1+ for $1} (about a minute, once)"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[[ -e $keyring ]] && signed="[signed-by=$keyring] "
updates=$suite-
(($# == 0)) || updates=/ # no suite's name: the first release will do
lines=$(awk -F'|' -v suite="$suite" -v updates="$updates" -v signed="${signed-}" '
    $1 == suite || index($1, updates) == 1 { print "deb " signed $2 " " $3 " " $4 }' <<<"$sources" | sort -u)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
reaching_the_mirror >"$work/apt.conf"
echo 'Dir::Cache { pkgcache ""; srcpkgcache ""; };' >>"$work/apt.conf" # 70 MB in the image otherwise
printf '%s\n' "$customize" >"$work/customize"
if (($#)); then # what is unpacked only needs no processor that runs it
    content=(--variant=extract --architectures="$1" "--include=base-files,coreutils,dash,dpkg,libc-bin")
else
    content=(--variant=minbase --include=usr-is-merged --customize-hook="sh $work/customize \"\$1\"")
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date_of_archive)} mmdebstrap --quiet --format=tar "${content[@]}" \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --aptopt="$work/apt.conf" \
    "$suite" "$tar.part" - <<<"$lines" >"$work/log" 2>&1 || {
    tail -20 "$work/log" >&2
    fail "mmdebstrap could not make the base image (above is the end of what it said)"
}
mv "$tar.part" "$tar"
printf '%s\n' "$tar"
