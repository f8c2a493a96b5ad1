// SPDX-License-Identifier: MIT
/// Values of every kind that calibration meets: a 64-bit mixer and arithmetic instead of <random>, whose
/// distributions differ between standard libraries. The same on every build but for last bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace oracle {

/// splitmix64.
struct mixer {
  std::uint64_t state;
  std::uint64_t next() {
    std::uint64_t z = (state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  /// In [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  /// Nearly normal: twelve uniforms.
  double normal() {
    double s = -6;
    for (int i = 0; i < 12; ++i) s += unit();
    return s;
  }
};

struct sample {
  std::string name;
  std::vector<float> values;
};

/// One value of a named kind.
inline double draw(const std::string& kind, mixer& m) {
  if (kind == "normal") return m.normal();
  if (kind == "outliers") return m.normal() * (m.unit() < 0.003 ? 60 : 1);
  if (kind == "positive") return 7 + 2 * m.unit() + (m.unit() < 0.002 ? 40 : 0);
  if (kind == "negative") return -7 - 2 * m.unit() - (m.unit() < 0.002 ? 40 : 0);
  if (kind == "huge mean") return 1000 + m.normal();
  if (kind == "huger mean") return -3e6 + 4 * m.normal();
  if (kind == "softmax") return std::exp2(-18 * m.unit() * m.unit() - 0.1);
  if (kind == "relu") return std::fmax(0, m.normal());
  if (kind == "gelu") {
    const double x = m.normal();
    return x * 0.5 * (1 + std::erf(x * 0.70710678));
  }
  if (kind == "every octave")
    return std::ldexp(1 + m.unit(), static_cast<int>(m.next() % 270) - 143) * (m.next() % 2 ? 1 : -1);
  if (kind == "subnormal") return std::ldexp(m.normal(), -140);
  if (kind == "few levels") return static_cast<double>(m.next() % 7) - 3;
  if (kind == "pixels") return static_cast<double>(m.next() % 256) / 255;
  if (kind == "signed zeros") return m.next() % 3 == 0 ? m.normal() : (m.next() % 2 ? 0.0 : -0.0);
  return 0.3;  // "constant"
}

inline std::vector<float> draws(const std::string& kind, std::size_t n, std::uint64_t seed = 1) {
  mixer m{seed};
  std::vector<float> xs;
  for (std::size_t i = 0; i < n; ++i) xs.push_back(static_cast<float>(draw(kind, m)));
  return xs;
}

/// n values of every kind.
inline std::vector<sample> every_kind(std::size_t n) {
  std::vector<sample> all;
  for (const char* kind :
       {"normal", "outliers", "positive", "negative", "huge mean", "huger mean", "softmax", "relu", "gelu",
        "every octave", "subnormal", "few levels", "pixels", "signed zeros", "constant"}) {
    all.push_back({kind, draws(kind, n)});
  }
  return all;
}

}  // namespace oracle
