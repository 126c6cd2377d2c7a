#!/bin/sh
# Brings .venv up to date: `tools/environment.sh demo`, `… test` or `… lint` installs what that needs, in just the
# versions of constraints.txt, and does nothing (in less than 0.1 s) if that has been done already.
#
# PYTHON=python3.12 chooses the interpreter of a new environment, VENV another folder for it.

set -eu
cd "$(dirname "$0")/.."

VENV="${VENV:-.venv}"

say() { printf '%s\n' "$*" >&2; }
die() { say "taskmaster: $1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

case "${1:-}" in
    demo) extras=demo ;;
    test) extras=demo,test ;;
    lint) extras=demo,test,lint ;;
    *) die "tools/environment.sh takes one of: demo, test, lint" ;;
esac

# -- the interpreter ---------------------------------------------------------------------------------------------------

suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suitable "$PYTHON" || die "PYTHON=$PYTHON is not a Python of version 3.11 or later" \
            "unset PYTHON, or name another one: make demo PYTHON=python3.12"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if suitable "$candidate"; then echo "$candidate"; return; fi
    done
    die "needs Python 3.11 or later; $(python3 --version 2>/dev/null || echo 'python3 is not installed') here" \
        "Debian 12, Ubuntu 24.04 and later: sudo apt install python3 python3-venv" \
        "Ubuntu 22.04:                      sudo apt install python3.11 python3.11-venv"
}

make_environment() {
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || die \
        "$("$python" --version) here cannot make virtual environments: its venv module is not installed" \
        "Debian and Ubuntu: sudo apt install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    say "taskmaster: making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV" || die "$VENV could not be made" "is this folder writable, is the disk full?"
}

if ! suitable "$VENV/bin/python" || ! [ -x "$VENV/bin/pip" ]; then
    make_environment
fi

# -- what is installed in it -------------------------------------------------------------------------------------------

stamp="$VENV/.taskmaster-$1"
# The folder counts too: an environment that was moved still points to where it was.
key=$({ pwd; cat pyproject.toml constraints.txt; } | sha256sum)
for done in "$VENV"/.taskmaster-*; do
    case "$done" in
        "$stamp" | "$VENV/.taskmaster-lint") ;;
        "$VENV/.taskmaster-test") [ "$1" != lint ] || continue ;;
        *) continue ;;
    esac
    [ "$(cat "$done" 2>/dev/null)" != "$key" ] || exit 0
done

say "taskmaster: installing [$extras] into $VENV (a minute or two the first time)"
install() {
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@" || die \
        "pip could not install what is needed; its message is above" \
        "is the package index reachable from here?"
}
# The build backends, ours and that of libraries that come as sources only, are those of constraints.txt as well, which
# isolated builds would not heed.
install hatchling setuptools
install --no-build-isolation --editable ".[$extras]"
printf '%s\n' "$key" >"$stamp"
