// SPDX-License-Identifier: MIT
/// Runs a saved model on fixed inputs with every unit of the engine that this CPU has, and prints a checksum
/// of the codes of each site and one of the results. Units that disagree, or another build's list that does
/// (--expect), are an error that names the first site.
///
///   site_checksums MODEL [--expect LIST]
#include <repquant/infer/dispatched_engine.hpp>
#include <repquant/io/file.hpp>

#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace rq = repquant;

namespace {

constexpr int samples = 8;

/// Places and their checksums, in the order in which a run first meets them.
using listing = std::vector<std::pair<std::string, std::uint64_t>>;

/// Grey values as images have them, from a fixed generator: integers, then two operations rounded once each.
std::vector<float> input(std::uint64_t seed, std::size_t n) {
  std::vector<float> x(n);
  for (float& v : x) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    v = rq::lane::div(static_cast<float>(static_cast<int>(seed >> 56U) - 73), 90.0F);
  }
  return x;
}

/// Memory that starts on a multiple of 64.
class aligned_bytes {
 public:
  explicit aligned_bytes(std::size_t n) : memory_(n + 64), size_(n) {}
  std::span<std::byte> all() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return {memory_.data() + (64 - address % 64) % 64, size_};
  }

 private:
  std::vector<std::byte> memory_;
  std::size_t size_;
};

rq::failure checksums(const rq::model_view& m, rq::dispatched_engine e, listing& list) {
  aligned_bytes storage(e.storage_bytes(m));
  if (rq::failure f = e.prepare(m, storage.all())) return f;
  const rq::model_header& h = m.header();
  const rq::index rows = h.max_rows > 0 ? h.max_rows : h.min_rows + 12;
  if (rq::failure f = e.check_rows(rows)) return f;
  aligned_bytes workspace(e.workspace_bytes(rows));
  for (const rq::site_record& s : m.sites()) list.emplace_back(m.path(s), rq::checksum({}));
  list.emplace_back("result", rq::checksum({}));
  std::vector<float> out(static_cast<std::size_t>(e.output_rows(rows) * h.output_cols));
  for (int i = 0; i < samples; ++i) {
    const std::vector<float> x =
        input(static_cast<std::uint64_t>(i), static_cast<std::size_t>(rows * h.input_cols));
    const auto add = [&](std::int32_t site, const std::uint8_t* codes, rq::index n, rq::index cols) {
      std::uint64_t& sum = list[static_cast<std::size_t>(site)].second;
      sum = rq::checksum(std::as_bytes(std::span(codes, static_cast<std::size_t>(n * cols))), sum);
    };
    e.run(x.data(), rows, out, workspace.all(), add);
    list.back().second = rq::checksum(std::as_bytes(std::span(out)), list.back().second);
  }
  return {};
}

/// The first place at which two lists differ, or null.
const std::string* first_difference(const listing& a, const listing& b) {
  static const std::string length = "number of sites";
  if (a.size() != b.size()) return &length;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return &a[i].first;
  }
  return nullptr;
}

rq::result<listing> read_listing(const char* path) {
  const auto bytes = rq::read_file(path);
  if (!bytes) return bytes.error();
  listing list;
  std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const std::size_t gap = line.rfind(' ');
    if (line.empty() || line[0] == '#' || gap == std::string::npos) continue;
    list.emplace_back(line.substr(0, gap), std::stoull(line.substr(gap + 1), nullptr, 16));
  }
  return list;
}

int fail(const rq::failure& f) {
  char sentence[192];
  rq::describe(f, sentence);
  static_cast<void>(std::fprintf(stderr, "site_checksums: %s\n", sentence));
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && !(argc == 4 && std::strcmp(argv[2], "--expect") == 0)) {
    static_cast<void>(std::fprintf(stderr, "usage: site_checksums MODEL [--expect LIST]\n"));
    return 2;
  }
  const auto bytes = rq::read_file(argv[1]);
  if (!bytes) return fail(bytes.error());
  rq::model_view model;
  if (rq::failure f = rq::model_view::open(*bytes, model)) return fail(f);

  listing want;
  const char* told_by = "scalar";
  if (argc == 4) {
    auto expected = read_listing(argv[3]);
    if (!expected) return fail(expected.error());
    want = *std::move(expected);
    told_by = argv[3];
  }
  int differing = 0;
  const rq::engine_units here = rq::engine_units_here();
  for (const auto* unit : here.all()) {
    const rq::dispatched_engine e(*unit);
    listing got;
    if (rq::failure f = checksums(model, e, got)) return fail(f);
    if (want.empty()) want = got;
    const std::string* place = first_difference(want, got);
    static_cast<void>(std::printf("# %s: %s\n", rq::name_of(e.set()),
                                  place == nullptr ? "agrees" : ("differs first at " + *place).c_str()));
    if (place != nullptr) {
      ++differing;
      static_cast<void>(std::fprintf(stderr, "site_checksums: %s and %s differ first at %s\n",
                                     rq::name_of(e.set()), told_by, place->c_str()));
    }
  }
  for (const auto& [place, sum] : want) {
    static_cast<void>(std::printf("%s %016llx\n", place.c_str(), static_cast<unsigned long long>(sum)));
  }
  return differing == 0 ? 0 : 1;
}
