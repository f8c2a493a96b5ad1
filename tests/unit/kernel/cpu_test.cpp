// SPDX-License-Identifier: MIT
#include <repquant/kernel/cpu.hpp>

#include "catch.hpp"
#include <set>
#include <string>

namespace rq = repquant;

TEST_CASE("instruction sets: names, values and kernels", "[kernel]") {
  std::set<std::string> names;
  for (rq::instruction_set s : rq::all_instruction_sets) {
    CHECK(names.insert(rq::name_of(s)).second);
    rq::instruction_set parsed{};
    CHECK(rq::parse_instruction_set(rq::name_of(s), parsed));
    CHECK(parsed == s);
    if (rq::runs_here(s)) {
      CHECK(rq::has_kernels(s));
      CHECK(rq::with_instruction_set(s, []<rq::instruction_set Set>() { return Set; }) == s);
    }
  }
  rq::instruction_set none{};
  CHECK_FALSE(rq::parse_instruction_set("avx", none));
  CHECK_FALSE(rq::parse_instruction_set("", none));
}

TEST_CASE("runs_here: what the compiler was told, and each set with those below it", "[kernel]") {
  using enum rq::instruction_set;
  CHECK(rq::runs_here(scalar));
  CHECK(rq::runs_here(rq::instruction_set_of<rq::default_arch>));  // or this test would not run
  CHECK(rq::runs_here(sse2) == (REPQUANT_X86_64 == 1));
  CHECK(rq::runs_here(neon) == (REPQUANT_AARCH64 == 1));
  const rq::instruction_set pairs[][2] = {{sse4, avx2},          {avx2, avx_vnni},     {avx2, avx512},
                                          {avx512, avx512_vnni}, {neon, neon_dotprod}, {neon, neon_i8mm}};
  for (const auto& p : pairs) CHECK((rq::runs_here(p[0]) || !rq::runs_here(p[1])));
}

TEST_CASE("choose_instruction_set: taken, or refused with both numbers", "[kernel]") {
  const rq::instruction_set before = rq::chosen_instruction_set();
  CHECK(before == rq::detected_instruction_set());
  for (rq::instruction_set s : rq::all_instruction_sets) {
    const rq::failure f = rq::choose_instruction_set(s);
    if (rq::runs_here(s)) {
      CHECK_FALSE(f);
      CHECK(rq::chosen_instruction_set() == s);
    } else {
      CHECK(f.code == rq::errc::bad_option);
      CHECK(f.got == static_cast<std::int64_t>(s));
      CHECK(f.want == static_cast<std::int64_t>(before));
    }
  }
  REQUIRE_FALSE(rq::choose_instruction_set(before));
}
