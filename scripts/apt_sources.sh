# What this machine's apt knows of its distribution's archive. Sourced by those that make roots out of it with mmdebstrap.
# shellcheck shell=bash

# origin|codename|URL|release|component of each of Debian's and Ubuntu's sources that has a list; third parties' are left out
distribution_sources() {
    # shellcheck disable=SC2016 # the names are apt's
    apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
        grep -E '^(Debian|Ubuntu)\|' | sort -u
}

# The same, after an update if there was none, as of a fresh machine
distribution_sources_updated() {
    distribution_sources && return
    [[ $(id -u) == 0 ]] || return
    printf 'apt has no package lists yet: apt-get update\n' >&2
    apt-get update --quiet=2 >&2 || true # a third party's source may fail
    distribution_sources
}

# The address of Debian's main archive, out of the sources
archive_of_debian() {
    awk -F'|' '$1 == "Debian" && $5 == "main" && $2 !~ /-/ { print $3; exit }'
}

# source_line ORIGIN URL RELEASE COMPONENT [OPTION]: one line of sources.list, signed by the distribution's own key
source_line() {
    local keyring=/usr/share/keyrings/${1,,}-archive-keyring.gpg options=${5-}
    [[ ! -e $keyring ]] || options="signed-by=$keyring $options"
    printf 'deb %s%s %s %s\n' "${options:+[${options% }] }" "$2" "$3" "$4"
}

# source_lines CODENAME: sources.list of a release with its updates; nothing when apt does not have it
source_lines() {
    local suite=$1 origin codename url release component
    distribution_sources | grep "^[^|]*|$suite|" >/dev/null || return 0
    distribution_sources | while IFS='|' read -r origin codename url release component; do
        # Ubuntu's pockets have the codename of their release, Debian's add to it
        [[ $codename != "$suite" && $codename != "$suite"-* ]] || source_line "$origin" "$url" "$release" "$component"
    done
}

# mmdebstrap reads none of the machine's apt.conf: what says how to reach the mirror is handed on
settings_of_apt() {
    apt-config dump --format '%F "%v";%n' Acquire |
        grep -E '^Acquire::(https?|ftp|Check-|Retries|Force|Queue|Proxy)' | grep -v ' "";$' || true
}
