// SPDX-License-Identifier: MIT
/// The engine on quantized models: both engines and every architecture give the same bits, memory of exactly
/// the queried sizes is enough, running takes nothing from the heap, and saved bytes mean the same model.
#include <repquant/infer/engine.hpp>

#include "catch.hpp"
#include "unit/block/vit.hpp"
#include <cstdlib>
#include <limits>
#include <new>
#include <set>

namespace rq = repquant;

#if !defined(REPQUANT_TEST_SANITIZED)  // a sanitizer has its own operators, which see more
namespace {

/// Allocations of this thread, counted by the operators below (those for arrays call them, too).
thread_local long allocations = 0;

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  void* p = alignment <= alignof(std::max_align_t)
                ? std::malloc(std::max<std::size_t>(size, 1))
                : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

// never inlined: the compiler would see new without delete, or free for what new gave
#define NEVER_INLINED __attribute__((noinline))
NEVER_INLINED void* operator new(std::size_t size) { return counted(size, 1); }
NEVER_INLINED void* operator new(std::size_t size, std::align_val_t a) {
  return counted(size, static_cast<std::size_t>(a));
}
NEVER_INLINED void operator delete(void* p) noexcept { std::free(p); }
NEVER_INLINED void operator delete(void* p, std::size_t) noexcept { std::free(p); }
NEVER_INLINED void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
NEVER_INLINED void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif

namespace {

/// A network with all that a sequence model needs: embedding, class token, positions, an encoder block, a
/// norm, one token out.
rq::program small_network() {
  return rq::record(networks::block{[](rq::trace& t, rq::value x) {
                      const rq::matrix<> token = networks::random_matrix(1, 16, 0.5F, 21);
                      x = t.linear("embed", networks::random_linear(16, 6, 1), x);
                      x = t.prepend_row("token", token, x);
                      x = t.add_rows("positions", networks::random_matrix(12, 16, 0.2F, 22), x);
                      {
                        const auto scope = t.scope("block", 0);
                        x = networks::random_encoder(16, 40, 4, 2).forward(t, x);
                      }
                      x = t.select_row(0, t.norm("norm", networks::random_norm(16, 30), x));
                      return t.linear("head", networks::random_linear(5, 16, 31), x);
                    }},
                    6)
      .value();
}
const networks::samples& small_samples() {
  static const networks::samples x = networks::random_samples(6, 9, 6, 77);
  return x;
}
/// `spread`: with inputs spread where that pays. `feedback`: the block of codes with feedback.
rq::quantized_model small_model(int bits = 4, bool spread = true, rq::index feedback = 0) {
  rq::repquant_recipe r;
  r.feedback_block = feedback;
  if (!spread) r.spread_below = 0;
  return std::move(
      networks::quantize(small_network(), small_samples(), rq::with_bits(r, bits, bits)).value());
}

bool same_bits(const rq::matrix<>& a, const rq::matrix<>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(float)) == 0;
}

/// Both engines on both architectures: the same codes at every site, the same result, bit for bit.
void require_one_result(const rq::quantized_model& m, const rq::matrix<>& x) {
  networks::recorded_codes integer;
  networks::recorded_codes simulated;
  networks::recorded_codes scalar;
  networks::recorded_codes simulated_scalar;
  const rq::matrix<> y = m.run(x, integer.sink()).value();
  REQUIRE(same_bits(y, m.simulate(x, simulated.sink()).value()));
  REQUIRE(same_bits(y, m.run<rq::scalar_arch>(x, scalar.sink()).value()));
  REQUIRE(same_bits(y, m.simulate<rq::scalar_arch>(x, simulated_scalar.sink()).value()));
  REQUIRE(integer == simulated);
  REQUIRE(integer == scalar);
  REQUIRE(integer == simulated_scalar);
  REQUIRE(std::set<std::int32_t>(integer.sites.begin(), integer.sites.end()).size() ==
          m.view().sites().size());
}

/// Memory with guard bytes on both sides of `size` bytes that start on a multiple of 8 and of nothing more.
struct guarded {
  explicit guarded(std::size_t n) : size(n), words((n + 7) / 8 + 2 * guard_words + 1, pattern) {}
  std::span<std::byte> inside() {
    auto* p = reinterpret_cast<std::byte*>(words.data() + guard_words);
    if (reinterpret_cast<std::uintptr_t>(p) % 16 == 0) p += 8;
    return {p, size};
  }
  bool untouched() {
    const std::span<std::byte> in = inside();
    const auto* first = reinterpret_cast<const std::byte*>(words.data());
    const auto* last = reinterpret_cast<const std::byte*>(words.data() + words.size());
    const auto is_pattern = [](std::byte b) { return b == std::byte{0xA5}; };
    return std::all_of(first, static_cast<const std::byte*>(in.data()), is_pattern) &&
           std::all_of(static_cast<const std::byte*>(in.data() + in.size()), last, is_pattern);
  }
  static constexpr std::size_t guard_words = 16;
  static constexpr std::uint64_t pattern = 0xA5A5A5A5A5A5A5A5ULL;
  std::size_t size;
  std::vector<std::uint64_t> words;
};

}  // namespace

TEST_CASE("both engines give the same bits for every recipe and width", "[infer][engine]") {
  const rq::program p = small_network();
  for (const char* recipe : {"naive", "repq", "repquant", "feedback"}) {
    for (const int bits : {8, 6, 4, 3, 2}) {
      CAPTURE(recipe, bits);
      const auto m = networks::quantize(p, small_samples(), recipe, bits, bits);
      REQUIRE(m);
      for (const rq::index tokens : {1, 4, 11}) {
        require_one_result(*m, networks::random_samples(1, tokens, 6, 5)[0]);
      }
    }
  }
}

TEST_CASE("both engines give the same bits on the vision transformer", "[infer][engine]") {
  const rq::program p = networks::vit_program();
  const networks::samples calibration = networks::calibration_images(8);
  const networks::samples images =
      networks::patches_of(networks::vit_images().evaluation, networks::image_count(4));
  struct setting {
    const char* recipe;
    int bits;
  };
  for (const setting s :
       {setting{"naive", 8}, setting{"repq", 6}, setting{"repquant", 4}, setting{"feedback", 4}}) {
    CAPTURE(s.recipe, s.bits);
    const auto m = networks::quantize(p, calibration, s.recipe, s.bits, s.bits);
    REQUIRE(m);
    for (const rq::matrix<>& x : images) require_one_result(*m, x);
  }
}

TEST_CASE("a model with awkward input has the same codes on every architecture", "[infer][engine]") {
  const rq::quantized_model plain = small_model();
  const rq::quantized_model fed = small_model(4, true, 5);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), inf, -inf, 3.4e38F, -3.4e38F, 1e-42F}) {
    rq::matrix<> x = small_samples()[0];
    x(2, 3) = bad;
    x(5, 0) = -bad;
    for (const rq::quantized_model* m : {&plain, &fed}) require_one_result(*m, x);
    x.setConstant(bad);
    for (const rq::quantized_model* m : {&plain, &fed}) require_one_result(*m, x);
  }
}

TEST_CASE("memory of the queried sizes is enough", "[infer][engine]") {
  const rq::quantized_model m = small_model(4, true, 5);
  guarded storage(rq::engine::storage_bytes(m.view()));
  rq::engine e;
  REQUIRE_FALSE(e.prepare(m.view(), storage.inside()));
  CHECK(storage.untouched());
  const rq::failure small = rq::engine().prepare(m.view(), storage.inside().first(storage.size - 1));
  CHECK(small.code == rq::errc::shape_mismatch);
  CHECK(small.got == static_cast<std::int64_t>(storage.size - 1));
  CHECK(small.want == static_cast<std::int64_t>(storage.size));
  guarded shifted(storage.size + 8);
  CHECK(rq::engine().prepare(m.view(), shifted.inside().subspan(1, storage.size)).code ==
        rq::errc::bad_format);

  for (const rq::index rows : {1, 2, 7, 11}) {
    CAPTURE(rows);
    const rq::matrix<> x = networks::random_samples(1, rows, 6, 5)[0];
    const rq::matrix<> want = m.run(x).value();
    rq::matrix<> y(e.output_rows(rows), 5);
    const std::span<float> out(y.data(), static_cast<std::size_t>(y.size()));
    guarded workspace(e.workspace_bytes(rows));
    e.run(x.data(), rows, out, workspace.inside());
    CHECK(workspace.untouched());
    CHECK(same_bits(y, want));
    guarded simulated(e.workspace_bytes<rq::simulated_products>(rows));
    y.setZero();
    e.run<rq::default_arch, rq::simulated_products>(x.data(), rows, out, simulated.inside());
    CHECK(simulated.untouched());
    CHECK(same_bits(y, want));
    // what a former run left there does not matter
    std::fill(workspace.inside().begin(), workspace.inside().end(), std::byte{0xFF});
    y.setZero();
    e.run(x.data(), rows, out, workspace.inside());
    CHECK(same_bits(y, want));
  }
  CHECK(storage.untouched());
}

#if !defined(REPQUANT_TEST_SANITIZED)
TEST_CASE("opening, preparing and running take nothing from the heap", "[infer][engine]") {
  const rq::quantized_model m = small_model(4, true, 5);
  const rq::matrix<> x = small_samples()[1];
  std::vector<std::uint64_t> storage((rq::engine::storage_bytes(m.view()) + 7) / 8);
  std::vector<std::uint64_t> workspace((m.prepared().workspace_bytes(x.rows()) + 7) / 8);
  std::vector<float> out(5);
  const long before = allocations;
  rq::model_view view;
  const bool opened = !rq::model_view::open(m.bytes(), view);
  rq::engine e;
  const bool prepared = !e.prepare(view, std::as_writable_bytes(std::span(storage)));
  e.run(x.data(), x.rows(), out, std::as_writable_bytes(std::span(workspace)));
  const long during = allocations - before;
  CHECK(opened);
  CHECK(prepared);
  CHECK(during == 0);
  ::operator delete(::operator new(1));  // called by name, so that no compiler leaves it out
  CHECK(allocations - before > during);  // the counter counts
  CHECK(std::memcmp(out.data(), m.run(x).value().data(), sizeof(float) * out.size()) == 0);
}
#endif

TEST_CASE("numbers of tokens that a model cannot run are refused", "[infer][engine]") {
  const rq::quantized_model m = small_model();
  for (const rq::index rows : {-1, 0}) CHECK(m.prepared().check_rows(rows).code == rq::errc::empty);
  CHECK_FALSE(m.prepared().check_rows(11));  // twelve positions, one of them the class token's
  const rq::failure many = m.prepared().check_rows(12);
  CHECK(many.code == rq::errc::shape_mismatch);
  CHECK(many.got == 12);
  CHECK(many.want == 11);
  CHECK(m.run(rq::matrix<>(12, 6).setZero()).error().code == rq::errc::shape_mismatch);
  CHECK(m.run(rq::matrix<>(0, 6)).error().code == rq::errc::empty);
  const auto narrow = m.run(rq::matrix<>(3, 5).setZero());
  REQUIRE_FALSE(narrow);
  CHECK(narrow.error().code == rq::errc::shape_mismatch);
  CHECK(narrow.error().got == 5);
  CHECK(narrow.error().want == 6);

  // a model that picks the fourth token needs four
  const rq::program p = rq::record(networks::block{[](rq::trace& t, rq::value x) {
                                     x = t.linear("fc", networks::random_linear(4, 6, 1), x);
                                     return t.select_row(3, x);
                                   }},
                                   6)
                            .value();
  const auto fourth = networks::quantize(p, small_samples(), rq::naive_recipe{});
  REQUIRE(fourth);
  CHECK(fourth->run(networks::random_samples(1, 4, 6, 5)[0]));
  const auto three = fourth->run(networks::random_samples(1, 3, 6, 5)[0]);
  REQUIRE_FALSE(three);
  CHECK(three.error().code == rq::errc::shape_mismatch);
  CHECK(three.error().want == 4);
}

TEST_CASE("saved bytes are the model", "[infer][engine]") {
  const networks::samples calibration = networks::calibration_images(8);
  const auto m =
      networks::quantize(networks::vit_program(), calibration, rq::with_bits(rq::repquant_recipe{}, 4, 4));
  REQUIRE(m);
  std::vector<std::byte> saved(m->bytes().begin(), m->bytes().end());
  const auto loaded = rq::quantized_model::load(saved);
  REQUIRE(loaded);
  CHECK(std::equal(saved.begin(), saved.end(), loaded->bytes().begin(), loaded->bytes().end()));
  for (const rq::matrix<>& x : networks::patches_of(networks::vit_images().evaluation, 3)) {
    networks::recorded_codes before;
    networks::recorded_codes after;
    const rq::matrix<> y = m->run(x, before.sink()).value();
    CHECK(same_bits(y, loaded->run(x, after.sink()).value()));
    CHECK(before == after);
  }
  // and only the whole of them, unchanged: lengths and bytes 97 apart
  for (std::size_t n = 0; n < saved.size(); n += 9973) {
    const auto cut = rq::quantized_model::load(std::span<const std::byte>(saved).first(n));
    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == rq::errc::shape_mismatch);
  }
  rq::model_view view;
  std::vector<std::uint64_t> words((saved.size() + 7) / 8);
  std::memcpy(words.data(), saved.data(), saved.size());
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(words)).first(saved.size());
  const std::size_t step =
      saved.size() / 97 / 20 * 97;  // some twenty of those 97 apart: a checksum takes 0.2 ms
  for (std::size_t i = 0; i < saved.size(); i += i < 1000 ? 97 : step) {
    bytes[i] ^= std::byte{0x10};
    const rq::failure f = rq::model_view::open(bytes, view);
    bytes[i] ^= std::byte{0x10};
    CAPTURE(i, f.where);
    CHECK(f.code != rq::errc::ok);
    CHECK(f.where[0] != 0);
  }
  CHECK_FALSE(rq::model_view::open(bytes, view));
}

TEST_CASE("the size of a model is that of its packed numbers", "[infer][engine]") {
  // embed 6 x 16, q k v out 16 x 16, fc 40 x 16 twice, head 16 x 5 at 4 bits: half a byte each
  const std::size_t weights = (6 * 16 + 4 * 16 * 16 + 2 * 40 * 16 + 16 * 5) / 2;
  // which inputs are spread, and with them what is stored, could differ between the widths
  const rq::quantized_model m4 = small_model(4, false);
  const rq::quantized_model m8 = small_model(8, false);
  CHECK(m4.packed_bytes() > weights);
  CHECK(m4.packed_bytes() < m4.bytes().size());
  const std::size_t saved = m8.packed_bytes() - m4.packed_bytes();
  // the same instructions and parameters at both widths, apart from equal constants that are stored once
  CHECK(saved >= weights - 256);
  CHECK(saved <= weights + 256);
}
