# SPDX-License-Identifier: MIT
# Toolchain: 64-bit Arm from Debian's cross compiler; programs run under qemu-user.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max)
# The header-only packages are those of the host; behind the compiler's own, so that its C library comes first.
set(CMAKE_CXX_FLAGS_INIT "-idirafter /usr/include")
set(CMAKE_DISABLE_FIND_PACKAGE_ZLIB ON)  # the host's library
set(xsimd_DIR "/usr/lib/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu/cmake/xsimd" CACHE PATH "")
