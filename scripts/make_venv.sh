#!/usr/bin/env bash
# Makes a virtual environment if it is not there yet.
# Usage: scripts/make_venv.sh PYTHON FOLDER [options of venv]
set -euo pipefail
python=$1 folder=$2
shift 2

if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
    found=$("$python" --version 2>/dev/null) || found="not there"
    echo "$python is $found, but Python 3.10 to 3.13 is needed; choose one: make PYTHON=python3.12 ..." >&2
    exit 1
fi
if [[ ! -x "$folder/bin/pip" ]]; then
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "$python cannot make virtual environments; install them: sudo apt-get install -y python$version-venv" >&2
        exit 1
    fi
    "$python" -m venv "$@" "$folder"
    touch "$folder/COLCON_IGNORE"
    "$folder/bin/pip" install --quiet --upgrade pip
fi

# With a ROS installation underneath, numpy stays as it is: ROS's binaries are built against it.
: >"$folder/constraints.txt"
if [[ " $* " == *" --system-site-packages "* ]]; then
    "$python" -c 'import numpy; print("numpy==" + numpy.__version__)' >"$folder/constraints.txt" 2>/dev/null || true
fi
