#!/bin/sh
# Sees to what `make demo`, `make test` and .ci/run need from the system: make, and a Python ≥ 3.11 that can make virtual
# environments. Installs what is missing where it may (Debian or Ubuntu, as root), else says what to install.

set -eu

missing=
has_python() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return 0
    done
    return 1
}

command -v make >/dev/null || missing="$missing make"
has_python || missing="$missing python3 python3-venv"

# Some faults are brought about by a library that the fault suite compiles; without a compiler it leaves them out.
if ! command -v cc >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    missing="$missing gcc libc6-dev"
fi

if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "taskmaster: installing$missing" >&2
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "taskmaster: missing on this machine:$missing" >&2
    echo "  Debian and Ubuntu: sudo apt install$missing" >&2
    exit 1
fi
if ! has_python; then
    echo "taskmaster: this system's Python is older than 3.11; install a later one and name it: PYTHON=python3.11" >&2
    exit 1
fi
