// SPDX-License-Identifier: MIT
/// compare: our kernels and other libraries', interleaved in one process, as ratios of medians.
#include "cases.hpp"
#include "peers.hpp"
#include "support/fail.hpp"
#include "support/options.hpp"
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

namespace {

constexpr const char* program = "compare";

/// An instruction set that peers can be held to.
struct holding {
  const char* name;
  const char* openblas;  ///< its name for the kernels; null: its own choice
  const char* onednn;    ///< null: its own choice
};
constexpr holding holdings[] = {
    {"sse4", "Nehalem", "SSE41"}, {"avx2", "Haswell", "AVX2"}, {"native", nullptr, nullptr}};

/// What our kernels are compiled for.
constexpr const char* built_for =
#if defined(__AVX512F__)
    "native";
#elif defined(__AVX2__)
    "avx2";
#elif defined(__x86_64__)
    "sse4";
#else
    "native";
#endif

void set_or_clear(const char* name, const char* value) {
  if (value == nullptr) {
    ::unsetenv(name);
  } else {
    ::setenv(name, value, 1);
  }
}

/// Libraries read their environment when they are loaded: sets it and starts this program anew, once.
void hold_peers(const std::string& isa, int threads, char** argv) {
  const std::string mark = isa + " " + std::to_string(threads);
  const char* done = std::getenv("REPQUANT_COMPARE_HELD");
  if (done != nullptr && done == mark) return;
  ::setenv("REPQUANT_COMPARE_HELD", mark.c_str(), 1);
  for (const holding& h : holdings) {
    if (isa != h.name) continue;
    set_or_clear("OPENBLAS_CORETYPE", h.openblas);
    set_or_clear("ONEDNN_MAX_CPU_ISA", h.onednn);
    set_or_clear("DNNL_MAX_CPU_ISA", h.onednn);
  }
  set_or_clear("OPENBLAS_L2_SIZE", nullptr);  // its own measure of the cache
  const std::string count = std::to_string(threads);
  ::setenv("OMP_NUM_THREADS", count.c_str(), 1);
  ::setenv("OPENBLAS_NUM_THREADS", count.c_str(), 1);
  // threads that spin after their work would take the core of the next contender
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  ::setenv("OPENBLAS_THREAD_TIMEOUT", "16", 1);
  ::execv("/proc/self/exe", argv);
  std::perror("compare: starting anew");
}

std::string cpu_name() {
  std::ifstream f("/proc/cpuinfo");
  for (std::string line; std::getline(f, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

}  // namespace

int main(int argc, char** argv) {
  compare::settings s;
  s.cases = compare::all_cases;
  std::string isa = built_for;
  std::string clock = "wall";
  std::string report;
  int milliseconds = 10;
  examples::options o(program, "our kernels and other libraries', interleaved in one process.");
  o.add("case", "LIST", "cases", s.cases, compare::all_cases);
  o.add("rounds", "N", "rounds, of which medians are taken", s.rules.rounds, 1, 1001);
  o.add("milliseconds", "N", "of a contender in a round", milliseconds, 1, 1000);
  o.add("threads", "N", "threads of every contender", s.threads, 1, 64);
  o.add("isa", "NAME", "what peers are held to: sse4, avx2 or native", isa);
  o.add("clock", "NAME", "wall, or cpu (one thread, on a machine with other work)", clock);
  o.add("report", "FILE", "where to write the rows as JSON", report);
  o.flag("brief", "small shapes: to see that it works", s.brief);
  if (const auto code = o.parse(argc, argv)) return *code;
  if (std::none_of(std::begin(holdings), std::end(holdings), [&](const auto& h) { return isa == h.name; }))
    return examples::fail(program, "--isa is \"" + isa + "\", but must be sse4, avx2 or native");
  if (clock != "wall" && clock != "cpu")
    return examples::fail(program, "--clock is \"" + clock + "\", but must be wall or cpu");
  if (clock == "cpu" && s.threads != 1)
    return examples::fail(program, "--clock cpu adds up the time of all threads: it wants --threads 1");
  if (!report.empty()) {
    if (repquant::failure f = examples::check_writable(report)) return examples::fail(program, f);
  }
  hold_peers(isa, s.threads, argv);

  s.rules.milliseconds = milliseconds;
  s.rules.clock = clock == "cpu" ? compare::clock_kind::cpu : compare::clock_kind::wall;
  s.rules.pause = s.threads > 1 ? 20 : 1;
  compare::results rows;
  const auto say = [&rows](const char* key, const std::string& text) {
    std::printf("%-16s %s\n", key, text.c_str());
    rows.set(key, text);
  };
  say("cpu", cpu_name());
  say("ours", std::string("built for ") + built_for + " by " +
#if defined(__clang__)
                  "clang++ " __clang_version__
#else
                  "g++ " __VERSION__
#endif
  );
  say("peers held to", isa);
  say("threads", std::to_string(s.threads));
  say("timing", "median of " + std::to_string(s.rules.rounds) + " rounds of " + std::to_string(milliseconds) +
                    " ms, " + clock + " time");
  if constexpr (compare::has_openblas) say("OpenBLAS", compare::openblas_core() + " kernels");
  if constexpr (compare::has_xnnpack) compare::xnnpack_hold(isa);
  if constexpr (compare::has_onednn) say("oneDNN", compare::onednn_isa());
  std::printf("\n");

  const std::vector<compare::machine_limit> limits = compare::measure_limits(s.rules);
  examples::table limit_table(
      {{"limit of one thread", examples::align::left}, {"value"}, {"unit", examples::align::left}});
  examples::report::object limit_rows = examples::report::object::array();
  for (const compare::machine_limit& l : limits) {
    limit_table.row({l.name, examples::fixed(l.value, 1), l.unit});
    limit_rows.push_back({{"name", l.name}, {"value", l.value}, {"unit", l.unit}});
  }
  rows.set("limits", std::move(limit_rows));
  limit_table.print(stdout);
  std::printf("\n");

  const compare::session session{s, limits, rows};
  for (const auto family : {compare::gemm_cases, compare::gemv_cases, compare::attention_cases,
                            compare::encode_cases, compare::vit_cases}) {
    if (repquant::failure f = family(session)) return examples::fail(program, f);
  }
  rows.print();
  if (!report.empty()) {
    if (repquant::failure f = rows.write(report)) return examples::fail(program, f);
  }
  return 0;
}
