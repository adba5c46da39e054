#!/usr/bin/env bash
# Installs the shared libraries that wheels cannot bring: Mesa for off-screen rendering (MuJoCo), libusb, libGL and
# libgomp (Open3D). Where it may not install, it prints the line to run and stops.
set -euo pipefail

packages=(libosmesa6 libegl1 libgl1 libusb-1.0-0 libgomp1 libx11-6)
sonames=(libOSMesa.so.8 libEGL.so.1 libGL.so.1 libusb-1.0.so.0 libgomp.so.1 libX11.so.6)

missing=()
for i in "${!sonames[@]}"; do
  python3 -c "import ctypes; ctypes.CDLL('${sonames[$i]}')" 2>/dev/null || missing+=("${packages[$i]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "Missing system libraries: please install what your system calls ${missing[*]}." >&2
elif [ "$(id -u)" = 0 ]; then
  sh -c "$line" && exit 0
elif sudo -n true 2>/dev/null; then
  sudo sh -c "$line" && exit 0
else
  echo "Missing system libraries. Please run:  sudo sh -c '$line'" >&2
fi
exit 1
