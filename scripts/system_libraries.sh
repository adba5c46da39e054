#!/usr/bin/env bash
# Sees to it that the system libraries that pip cannot install are there.
# Looks by loading them; installs what is missing with apt-get where that needs no password, else prints the command.
# Usage: scripts/system_libraries.sh [--check]     --check: only look; exit code 1 when something is missing
set -euo pipefail

# soname, Debian package, what needs it
NEEDED=(
    "libEGL.so.1       libegl1         Open3D"
    "libGL.so.1        libgl1          Open3D"
    "libusb-1.0.so.0   libusb-1.0-0    Open3D"
    "libX11.so.6       libx11-6        Open3D"
    "libudev.so.1      libudev1        Open3D"
    "libgomp.so.1      libgomp1        Open3D-and-PyTorch"
)

if [[ "${MUJOCO_GL:-osmesa}" == osmesa ]]; then
    NEEDED+=("libOSMesa.so.8 libosmesa6 off-screen-rendering-of-the-simulator")
fi

missing() {
    local entry soname package user
    for entry in "${NEEDED[@]}"; do
        read -r soname package user <<<"$entry"
        if ! "${PYTHON:-python3}" -c "import ctypes; ctypes.CDLL('$soname')" 2>/dev/null; then
            echo "  $soname ($package), needed by ${user//-/ }" >&2
            echo "$package"
        fi
    done
}

mapfile -t packages < <(missing)
if ((${#packages[@]} == 0)); then
    exit 0
fi
echo "the system libraries above are missing" >&2
if [[ "${1:-}" == --check ]]; then
    exit 1
fi

if ! command -v apt-get >/dev/null; then
    echo "install them with this system's package manager (Debian calls them: ${packages[*]}), then try again" >&2
    exit 1
fi
if ((EUID == 0)); then
    sudo=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo=(sudo -n)
else
    echo "install them, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y ${packages[*]}" >&2
    exit 1
fi
"${sudo[@]}" apt-get update
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" || true
mapfile -t packages < <(missing)
if ((${#packages[@]} > 0)); then
    echo "could not be installed: ${packages[*]}" >&2
    if [[ " ${packages[*]} " == *" libosmesa6 "* ]]; then
        echo "recent systems have no libosmesa6; where EGL works, use that: MUJOCO_GL=egl make ..." >&2
    fi
    exit 1
fi
