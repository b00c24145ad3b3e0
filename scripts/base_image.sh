#!/usr/bin/env bash
# Makes the root file system of a base image as a tar, with no registry: mmdebstrap fetches the packages from the mirror
# that this machine's apt uses. Prints the tar's path; a tar that is there already is used again.
#
# It is Debian bookworm where the machine's apt offers that, and the machine's own release of Debian or Ubuntu otherwise.
# The content is that of the official image: the essential packages and apt, a merged /usr, and apt set up to leave nothing
# behind in a layer.
#
#   base_image.sh [ARCHITECTURE]    for another than this machine's: only a shell, dpkg and coreutils, not set up
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/apt_sources.sh

say() { printf '%s\n' "$1" >&2; }

fail() {
    say "${0##*/}: $1"
    exit 1
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
for tar in "$folder"/{debian,ubuntu}-*.tar; do
    [[ -e $tar && $tar != *.image.tar ]] || continue
    printf '%s\n' "$tar"
    exit
done

instead="put the tar of a Debian root file system at .cache/debian-bookworm.tar"
command -v apt-get >/dev/null || fail "this machine has no apt: $instead"
# An ordinary user's mmdebstrap works in a user namespace
[[ $(id -u) == 0 ]] || { command -v mmdebstrap && command -v newuidmap; } >/dev/null ||
    fail "making the base image needs root, once, or the packages mmdebstrap and uidmap; or $instead"
sources=$(distribution_sources_updated) || fail "apt on this machine has neither Debian's nor Ubuntu's archive: $instead"

# shellcheck source=/dev/null # the machine's own
own=$(. /etc/os-release 2>/dev/null && printf '%s' "${VERSION_CODENAME-}")
for suite in bookworm "$own" "$(cut -d'|' -f2 <<<"$sources" | grep -v -- - | head -1)"; do
    found=$(awk -F'|' -v suite="$suite" '$2 == suite' <<<"$sources")
    [[ -z $found ]] || break
done
[[ -n $found ]] || fail "apt on this machine has no release of Debian or Ubuntu: $instead"
distribution=${found%%|*}
lines=$(source_lines "$suite")
(($# == 0)) || lines=$(grep " $suite " <<<"$lines") # without its updates: the first release will do

tar=$folder/${distribution,,}-$suite.tar
scripts/packages.sh install '(makes the base image)' mmdebstrap
mkdir -p "$folder"
say "making the $distribution $suite base image${1+ for $1} (about a minute, once)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # a user namespace's root, whom mmdebstrap becomes, is not its owner
settings_of_apt >"$work/apt.conf"
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
