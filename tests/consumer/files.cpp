// SPDX-License-Identifier: MIT
/// A program that reads files: the optional target repquant::io.
#include <repquant/io/file.hpp>
#include <repquant/io/safetensors.hpp>

int main() {
  const auto bytes = repquant::read_file("no-such-file.safetensors");
  return !bytes && bytes.error().code == repquant::errc::io ? 0 : 1;
}
