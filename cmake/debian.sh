#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what the library, its tests, benches and examples need on Debian 12 or later; does nothing where it
# is there. With the argument "ci" also what only .ci/run uses: clang++, clang-format, clang-tidy, ccache, a cross
# compiler and an emulator for 64-bit Arm; with "peers" the libraries that bench/compare compares with.
set -eu
packages="g++ cmake make python3 libeigen3-dev libxsimd-dev nlohmann-json3-dev zlib1g-dev catch2 libbenchmark-dev"
for more in "$@"; do
  case $more in
    ci) packages="$packages clang libclang-rt-dev clang-format clang-tidy git ccache g++-aarch64-linux-gnu qemu-user" ;;
    peers) packages="$packages libdnnl-dev libgemmlowp-dev libopenblas-pthread-dev libpthreadpool-dev libcpuinfo-dev libxnnpack-dev" ;;
    *) echo "debian.sh: there is no \"$more\", only ci and peers" >&2; exit 2 ;;
  esac
done

missing=
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
if [ -z "$missing" ]; then exit 0; fi

as_root=
if [ "$(id -u)" != 0 ]; then as_root=sudo; fi
echo "Installing:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086  # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
