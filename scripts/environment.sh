#!/usr/bin/env bash
# Makes .venv: a Python environment with wherry (editable) and its development tools. Called by make, when
# pyproject.toml is newer than the last time.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

[[ $(id -u) == 0 || (-w . && (! -e .venv || -O .venv)) ]] ||
    fail "$PWD belongs to another user: be that user, or clone the repository into a folder of your own"
command -v python3 >/dev/null || scripts/packages.sh install '(wherry is written in it)' python3
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "wherry needs Python 3.11 or newer; python3 is $(python3 --version 2>&1)"
packages=() why=()
# Debian's own Python comes without ensurepip; others (pyenv, uv, python.org) have it.
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv) why+=("to make .venv")
python3 -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null ||
    packages+=(libseccomp2) why+=("to compile filters of system calls")
((${#packages[@]} == 0)) || scripts/packages.sh install "(${why[*]})" "${packages[@]}"

if ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    python3 -m venv .venv
fi
# pip before 25.1 writes commands that import re before anything else: 5 ms, a third of the CLI's start.
printf 'installing wherry and its tools into .venv\n' >&2
pip=(.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check)
"${pip[@]}" --upgrade 'pip>=25.1'
"${pip[@]}" --editable '.[dev]'

# The CLI starts in about 10 ms from bytecode, and in ten times that without; PYTHONDONTWRITEBYTECODE may be set.
.venv/bin/python -m compileall -q src "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    >/dev/null || true # some packages carry templates that are no valid Python

touch .venv/.ready
