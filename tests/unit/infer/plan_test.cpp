// SPDX-License-Identifier: MIT
/// The planned run against the definition, instruction after instruction on whole samples: the same bits for
/// one sample, batches, any number of parts and threads, and for tokens that come in chunks; memory of
/// exactly the queried sizes is enough.
#include <repquant/infer/decoder.hpp>
#include <repquant/infer/simulated_products.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include "unit/infer/written_model.hpp"
#include "unit/kernel/guarded.hpp"
#include <map>

namespace rq = repquant;

namespace {

/// A model in memory of its own, with an engine of type E prepared for it.
template<class E = rq::engine>
struct prepared {
  explicit prepared(const std::vector<std::byte>& saved) : words((saved.size() + 7) / 8) {
    std::memcpy(words.data(), saved.data(), saved.size());
    const rq::failure opened =
        rq::model_view::open(std::as_bytes(std::span(words)).first(saved.size()), view);
    REQUIRE_FALSE(opened);
    storage.resize((rq::engine::storage_bytes(view) + 7) / 8);
    refused = engine.prepare(view, std::as_writable_bytes(std::span(storage)));
  }
  std::vector<std::uint64_t> words;
  std::vector<std::uint64_t> storage;
  rq::model_view view;
  E engine;
  rq::failure refused;
};

/// Memory of exactly so many bytes: the next one may not be touched.
struct exact_memory : guarded::memory<std::byte> {
  explicit exact_memory(std::size_t n) : memory(n, guarded::edge::back) {}
};

std::vector<float> random_input(rq::index n, unsigned seed) {
  std::minstd_rand random(seed);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = static_cast<float>(random() % 4000) / 1000.0F - 2;
  return x;
}

/// All codes of each site, in the order in which their rows were made.
using site_codes = std::map<std::int32_t, std::vector<std::uint8_t>>;

/// The definition: every instruction on registers that hold the whole sample, in the order of the model.
template<class Arch = rq::scalar_arch>
std::vector<float> defined_run(const rq::model_view& m, const float* x, rq::index rows, site_codes& codes) {
  const rq::index most = rows + m.header().extra_rows;
  std::vector<std::vector<std::uint64_t>> memory;
  std::vector<rq::activation_register> file;
  for (std::int32_t width : m.row_bytes()) {
    memory.emplace_back(static_cast<std::size_t>(width * most / 8 + 1));
    file.push_back({reinterpret_cast<std::byte*>(memory.back().data()), 0});
  }
  std::memcpy(file[0].data, x, static_cast<std::size_t>(rows * m.header().input_cols) * sizeof(float));
  file[0].rows = rows;
  for (const rq::instruction& s : m.instructions()) {
    std::vector<std::byte> scratch(rq::simulated_products::scratch_bytes(s, most, most));
    rq::simulated_products products{{}, scratch};
    rq::execute<Arch>(s, m.constants(), file, products,
                      [&](std::int32_t site, const std::uint8_t* q, rq::index r, rq::index c) {
                        codes[site].insert(codes[site].end(), q, q + r * c);
                      });
  }
  const rq::activation_register& out = file[static_cast<std::size_t>(m.header().output)];
  return {out.reals(), out.reals() + out.rows * m.header().output_cols};
}

/// Notes how often it is called, and calls the pieces in an order that no thread keeps.
struct counting_executor {
  std::vector<rq::index>* calls;
  template<class F>
  void operator()(rq::index n, const F& f) const {
    calls->push_back(n);
    for (rq::index i = n; i-- > 0;) f(i);
  }
};

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// Samples and parts of all shapes against the definition, one sample after the other.
void require_defined_bits(const std::vector<std::byte>& saved, std::initializer_list<rq::index> lengths) {
  const prepared<> p(saved);
  REQUIRE_FALSE(p.refused);
  const rq::index in = p.view.header().input_cols;
  for (const rq::index rows : lengths) {
    REQUIRE_FALSE(p.engine.check_rows(rows));
    constexpr rq::index most_samples = 7;
    const std::vector<float> x = random_input(most_samples * rows * in, static_cast<unsigned>(rows));
    std::vector<float> want;
    std::vector<site_codes> codes(most_samples);
    for (rq::index i = 0; i < most_samples; ++i) {
      const std::vector<float> y =
          defined_run(p.view, x.data() + i * rows * in, rows, codes[static_cast<std::size_t>(i)]);
      want.insert(want.end(), y.begin(), y.end());
    }
    const std::size_t each = want.size() / most_samples;
    for (const rq::index samples : {rq::index{1}, rq::index{2}, most_samples}) {
      for (const rq::index parts : {1, 2, 3, 9}) {
        CAPTURE(rows, samples, parts);
        const rq::batch b{.rows = rows, .samples = samples, .parts = parts};
        exact_memory workspace(p.engine.workspace_bytes(b));
        std::vector<float> y(each * static_cast<std::size_t>(samples), -1);
        p.engine.run(x.data(), b, y, workspace.span(), rq::threads{.count = 3});
        REQUIRE(same_bits(y, std::span(want).first(y.size())));
        // what a run left there does not matter, nor do the architecture and the kind of products
        std::fill(y.begin(), y.end(), -1.0F);
        p.engine.run<rq::scalar_arch>(x.data(), b, y, workspace.span(), rq::inline_executor{});
        REQUIRE(same_bits(y, std::span(want).first(y.size())));
        exact_memory simulated(p.engine.workspace_bytes<rq::simulated_products>(b));
        p.engine.run<rq::default_arch, rq::simulated_products>(x.data(), b, y, simulated.span(),
                                                               rq::inline_executor{});
        REQUIRE(same_bits(y, std::span(want).first(y.size())));
      }
    }
    // the codes of one sample, site by site. Rows of probabilities come block by block, and those of a causal
    // attention only with the keys that a block sees, so they are compared where a sample is one block
    site_codes got;
    std::vector<float> y(each);
    std::vector<std::byte> workspace(p.engine.workspace_bytes(rows));
    p.engine.run(x.data(), rows, y, workspace,
                 [&](std::int32_t site, const std::uint8_t* q, rq::index r, rq::index c) {
                   got[site].insert(got[site].end(), q, q + r * c);
                 });
    REQUIRE(got.size() == p.view.sites().size());
    for (const auto& [site, q] : codes[0]) {
      if (rows > 60 && p.view.sites()[static_cast<std::size_t>(site)].role == rq::site_role::probabilities)
        continue;
      REQUIRE(got[site] == q);
    }
  }
}

}  // namespace

TEST_CASE("a planned run gives the bits of the definition", "[infer][plan]") {
  SECTION("encoder") { require_defined_bits(written::encoder(4, 150), {1, 2, 7, 31, 63, 64, 149}); }
  SECTION("decoder") { require_defined_bits(written::decoder(2, 2, 150), {1, 2, 8, 33, 64, 65, 150}); }
  SECTION("last token") { require_defined_bits(written::decoder(2, 1, 150, true, true), {1, 5, 64, 130}); }
}

TEST_CASE("causal queries without keys stay together", "[infer][plan]") {
  // one key, the mean of the tokens, for all queries: all but the last see none
  written::builder b(5);
  const std::int32_t q = b.encode(0, 8);
  const std::int32_t mean = b.encode(b.add_instruction(rq::opcode::mean_rows, 8, 0), 8);
  const std::vector<std::byte> saved = b.finish(8, b.attention(q, mean, mean, 2, 2, 4, true), 8);
  const prepared<> p(saved);
  CHECK_FALSE(p.engine.planned().splits);
  require_defined_bits(saved, {1, 2, 64, 200});
  CHECK(prepared<>(written::decoder(2, 1, 9)).engine.planned().splits);
}

TEST_CASE("a model that gives its input back runs", "[infer][plan]") {
  written::builder b(6);
  b.encode(0, 5);
  require_defined_bits(b.finish(5, 0, 5), {1, 3, 70});
}

TEST_CASE("a plan has one phase more than attentions and shares memory", "[infer][plan]") {
  for (const int layers : {1, 2, 6}) {
    const prepared<> p(written::decoder(4, layers, 40));
    CHECK(p.engine.planned().phases.size() == static_cast<std::size_t>(layers) + 1);
    // two residuals of 64 bytes, codes of a query, a key and a value (a line of the cache each), twice where
    // those of two layers live at the same time; nothing of it grows with the layers
    CHECK(p.engine.planned().shared_row_bytes <= 2 * 64 + 2 * 3 * 64);
    // of a token eight places of keys in each of two groups, a place in each of the eight columns of values
    // of both, side by side in whole panels, and an offset for each of four heads
    const rq::instruction_set set = rq::instruction_set_of<rq::default_arch>;
    const rq::index code_bytes = rq::multiplies_bytes(set) ? 1 : 2;
    CHECK(p.engine.planned().cache_row_bytes ==
          layers * (code_bytes * (2 * 8 + std::max<rq::index>(8, rq::panel_width(set))) + 4 * 4));
  }
}

TEST_CASE("a plan calls the executor once for many samples, once per phase for one", "[infer][plan]") {
  const prepared<> p(written::decoder(2, 3, 100));
  const auto calls_of = [&](const rq::batch& b) {
    std::vector<rq::index> calls;
    const std::vector<float> x = random_input(b.samples * b.rows * 8, 3);
    std::vector<float> y(static_cast<std::size_t>(b.samples * b.rows * 7));
    std::vector<std::byte> workspace(p.engine.workspace_bytes(b));
    p.engine.run(x.data(), b, y, workspace, counting_executor{&calls});
    return calls;
  };
  CHECK(calls_of({.rows = 100, .samples = 8, .parts = 4}) == std::vector<rq::index>{4});
  CHECK(calls_of({.rows = 100, .samples = 1, .parts = 4}) == std::vector<rq::index>(4, 4));
  CHECK(calls_of({.rows = 1, .samples = 1, .parts = 4}) == std::vector<rq::index>(4, 1));
}

TEST_CASE("tokens that come in chunks give the bits of the whole sequence", "[infer][decoder]") {
  for (const bool last_only : {false, true}) {
    const std::vector<std::byte> saved = written::decoder(4, 2, 150, true, last_only);
    const prepared<> whole(saved);
    const prepared<rq::decoder> p(saved);
    REQUIRE_FALSE(p.refused);
    constexpr rq::index most = 140;
    const std::vector<float> x = random_input(most * 16, 11);
    // what a sequence of n tokens gives; with last_only one row for each n
    const auto expected = [&](rq::index n) {
      std::vector<float> y(static_cast<std::size_t>(whole.engine.output_rows(n) * 7));
      std::vector<std::byte> workspace(whole.engine.workspace_bytes(n));
      whole.engine.run(x.data(), n, y, workspace);
      return y;
    };
    for (const auto& chunks : {std::vector<rq::index>(40, 1), std::vector<rq::index>{5, 1, 1, 70, 1, 2},
                               std::vector<rq::index>{130, 1}}) {
      exact_memory memory(p.engine.cache_bytes(most));
      rq::token_cache cache{memory.span(), most};
      for (int again = 0; again < 2; ++again) {  // the second sequence finds what the first left
        cache.tokens = 0;
        for (const rq::index rows : chunks) {
          CAPTURE(last_only, cache.tokens, rows);
          REQUIRE_FALSE(p.engine.check_rows(cache, rows));
          for (const rq::index parts : {1, 3}) {
            exact_memory workspace(p.engine.workspace_bytes(most, rows, parts));
            std::vector<float> y(static_cast<std::size_t>(whole.engine.output_rows(rows) * 7));
            const rq::index before = cache.tokens;
            p.engine.run(x.data() + before * 16, rows, y, cache, workspace.span(), parts,
                         rq::threads{.count = static_cast<int>(parts)});
            const std::vector<float> want = expected(before + rows);
            REQUIRE(same_bits(y, std::span(want).last(y.size())));
            REQUIRE(cache.tokens == before + rows);
            if (parts == 1) cache.tokens = before;  // and the same chunk once more
          }
        }
      }
    }
  }
}

TEST_CASE("what a decoder cannot run is refused with its place", "[infer][decoder]") {
  const auto refused = [](const std::vector<std::byte>& saved) {
    return prepared<rq::decoder>(saved).refused;
  };
  const auto says = [](const rq::failure& f, const char* place) {
    return f.code == rq::errc::bad_option && std::string(f.where).find(place) != std::string::npos;
  };
  CHECK_FALSE(refused(written::decoder(2, 1, 20)));
  CHECK_FALSE(refused(written::decoder(2, 1, 20, true, true)));
  CHECK(says(refused(written::decoder(2, 1, 20, false)), "not causal"));
  CHECK(refused(written::decoder(2, 1, 20, false)).got > 0);
  CHECK(says(refused(written::encoder(2, 20)), "in front"));
  const auto ends_with = [](auto step) {
    written::builder b(3);
    const std::int32_t x = b.decoder_block(0, 2, 20);
    return b.finish(8, step(b, x), 8);
  };
  CHECK(says(refused(ends_with([](written::builder& b, std::int32_t x) {
               return b.add_instruction(rq::opcode::mean_rows, 8, x);
             })),
             "mean"));
  CHECK(says(refused(ends_with([](written::builder& b, std::int32_t x) { return b.select_row(x, 8, 0); })),
             "not the last"));
  CHECK(says(refused(ends_with([](written::builder& b, std::int32_t x) {
               const std::int32_t last = b.encode(b.select_row(x, 8, -1), 8);
               return b.attention(b.encode(x, 8), last, last, 2, 2, 4, true);
             })),
             "not those of all tokens"));

  const prepared<rq::decoder> p(written::decoder(2, 1, 20));
  exact_memory memory(p.engine.cache_bytes(30));
  rq::token_cache cache{memory.span(), 30};
  CHECK(p.engine.check_rows(cache, 0).code == rq::errc::empty);
  CHECK_FALSE(p.engine.check_rows(cache, 20));
  CHECK(p.engine.check_rows(cache, 21).want == 20);  // positions
  cache.tokens = 18;
  CHECK_FALSE(p.engine.check_rows(cache, 2));
  CHECK(p.engine.check_rows(cache, 3).code == rq::errc::shape_mismatch);
  cache.most = 19;
  CHECK(p.engine.check_rows(cache, 2).want == 19);  // room
  exact_memory moved(p.engine.cache_bytes(19) + 4);
  cache.memory = moved.span().subspan(1);
  CHECK(p.engine.check_rows(cache, 1).code == rq::errc::bad_format);
  CHECK(p.engine.check_rows(cache, 1).got == 1);  // byte behind a multiple of 4
  cache.memory = memory.span().first(p.engine.cache_bytes(19) - 1);
  CHECK(p.engine.check_rows(cache, 1).want == static_cast<std::int64_t>(p.engine.cache_bytes(19)));
}
