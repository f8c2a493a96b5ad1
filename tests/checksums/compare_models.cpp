// SPDX-License-Identifier: MIT
/// Compares two saved models, made by two builds from the same network and samples, step by step, and names
/// the first number that differs. Builds may differ here (docs/decisions/0004): what differs is a finding,
/// not an error, unless the steps themselves are other ones.
///
///   compare_models A B
#include <repquant/io/file.hpp>
#include <repquant/run.hpp>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace rq = repquant;

namespace {

const char* name_of(rq::opcode kind) {
  constexpr const char* names[] = {"encode",    "linear",   "norm",        "attention", "add",
                                   "multiply",  "activate", "prepend_row", "add_rows",  "select_row",
                                   "mean_rows", "rotate",   "hadamard",    "mix_heads"};
  return static_cast<std::size_t>(kind) < std::size(names) ? names[static_cast<std::size_t>(kind)] : "step";
}

/// The site whose codes instruction `i` makes, or else the last one made before it.
std::string site_near(const rq::model_view& m, std::size_t i) {
  for (std::size_t k = i + 1; k-- > 0;) {
    const std::int32_t site = m.instructions()[k].site;
    if (site >= 0) {
      const std::string path(m.path(m.sites()[static_cast<std::size_t>(site)]));
      return (k == i ? "site " : "behind site ") + path;
    }
  }
  return "before the first site";
}

/// The places of `n` bytes at which a and b differ.
std::vector<std::uint64_t> differences(const std::byte* a, const std::byte* b, std::uint64_t n) {
  std::vector<std::uint64_t> places;
  for (std::uint64_t i = 0; i < n; ++i) {
    if (a[i] != b[i]) places.push_back(i);
  }
  return places;
}

int fail(const rq::failure& f) {
  char sentence[192];
  rq::describe(f, sentence);
  static_cast<void>(std::fprintf(stderr, "compare_models: %s\n", sentence));
  return 2;
}

/// The settings of an instruction without what may differ: numbers that were fitted, and where they lie.
rq::instruction shape_of(rq::instruction s) {
  s.zero_a = s.zero_b = s.probability_zero = 0;
  s.probability_scale = 0;
  for (std::uint64_t& d : s.data) d = 0;
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    static_cast<void>(std::fprintf(stderr, "usage: compare_models A B\n"));
    return 2;
  }
  const auto bytes_a = rq::read_file(argv[1]);
  if (!bytes_a) return fail(bytes_a.error());
  const auto bytes_b = rq::read_file(argv[2]);
  if (!bytes_b) return fail(bytes_b.error());
  rq::model_view a;
  rq::model_view b;
  if (rq::failure f = rq::model_view::open(*bytes_a, a)) return fail(f);
  if (rq::failure f = rq::model_view::open(*bytes_b, b)) return fail(f);
  static_cast<void>(std::printf("%016llx %s\n%016llx %s\n",
                                static_cast<unsigned long long>(a.header().checksum), argv[1],
                                static_cast<unsigned long long>(b.header().checksum), argv[2]));
  if (a.instructions().size() != b.instructions().size()) {
    return fail({rq::errc::shape_mismatch, "steps", static_cast<std::int64_t>(b.instructions().size()),
                 static_cast<std::int64_t>(a.instructions().size())});
  }
  int differing = 0;
  for (std::size_t i = 0; i < a.instructions().size(); ++i) {
    const rq::instruction& s = a.instructions()[i];
    const rq::instruction& t = b.instructions()[i];
    const rq::instruction shape_a = shape_of(s);
    const rq::instruction shape_b = shape_of(t);
    const auto say = [&](const std::string& what) {
      if (differing++ > 0) return;
      static_cast<void>(std::printf("first difference: step %zu (%s, %s): %s\n", i, name_of(s.kind),
                                    site_near(a, i).c_str(), what.c_str()));
    };
    if (std::memcmp(&shape_a, &shape_b, sizeof shape_a) != 0) {
      return fail(
          {rq::errc::shape_mismatch, "step " + std::to_string(i) + ": kind, sizes or bits", t.bits, s.bits});
    }
    bool same = s.zero_a == t.zero_a && s.zero_b == t.zero_b && s.probability_zero == t.probability_zero &&
                std::memcmp(&s.probability_scale, &t.probability_scale, sizeof(float)) == 0;
    if (!same) say("zero points or the scale of its probabilities");
    for (int k = 0; k < 4 && same; ++k) {
      const std::uint64_t n = rq::model_view::data_bytes(s, k);
      if (n == 0) continue;
      const auto places = differences(a.constants().data() + s.data[k], b.constants().data() + t.data[k], n);
      if (places.empty()) continue;
      same = false;
      say("part " + std::to_string(k) + " of its numbers, " + std::to_string(places.size()) + " of " +
          std::to_string(n) + " bytes, the first at " + std::to_string(places[0]));
    }
  }
  if (differing == 0) {
    static_cast<void>(std::printf("the same in all %zu steps\n", a.instructions().size()));
  } else {
    static_cast<void>(std::printf("%d of %zu steps differ\n", differing, a.instructions().size()));
  }
  return 0;
}
