#!/bin/sh
# Sees to what `make demo`, `make test` and .ci/run need from the system: make, and a Python ≥ 3.11 that can make virtual
# environments. Installs what is missing where it may (Debian or Ubuntu, as root), else says what to install.
#
# With --all also what the tests can do without, and skip with a reason where it is missing: systemd-nspawn, in which they
# boot a machine, what says how exposed a service is, and a compiler, for the library by which faults are brought about.

set -eu

missing=
wanted=
has_python() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return 0
    done
    return 1
}

command -v make >/dev/null || missing="$missing make"
has_python || missing="$missing python3 python3-venv"
if [ "${1:-}" = --all ]; then
    command -v systemd-analyze >/dev/null || wanted="$wanted systemd"
    command -v systemd-nspawn >/dev/null || wanted="$wanted systemd-container"
    command -v ip >/dev/null || wanted="$wanted iproute2"
    command -v cc >/dev/null || wanted="$wanted gcc libc6-dev"
fi

if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "taskmaster: installing$wanted" >&2
    # shellcheck disable=SC2086 # a list of words
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted; } \
        >/dev/null 2>&1 || echo "taskmaster:$wanted cannot be installed; tests that need it are skipped" >&2
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
