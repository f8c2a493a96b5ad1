// SPDX-License-Identifier: MIT
#include <repquant/infer/attention.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include "unit/kernel/guarded.hpp"
#include <random>

namespace rq = repquant;

namespace {

struct fixture {
  rq::attention_head head;
  rq::index gap = 0;  // between the end of a row and the next
  std::vector<std::uint8_t> q, k, v;
  std::vector<std::int32_t> q_zero, v_zero;  // of every column
  std::vector<float> value_scale;

  /// Points the head to the columns of this fixture, wherever it was copied to.
  const rq::attention_head& linked() {
    head.q_zero = q_zero;
    head.v_zero = v_zero;
    head.value_scale = value_scale;
    return head;
  }

  rq::index stride() const { return head.head_dim + gap; }
};

fixture make(rq::index queries, rq::index keys, rq::index dim, rq::probability_code code, unsigned seed) {
  fixture f;
  f.head.queries = queries;
  f.head.keys = keys;
  f.head.head_dim = dim;
  f.head.k_zero = 131;
  f.head.score_multiplier = 2e-4F;
  f.head.probability = code;
  f.gap = seed % 3;
  std::mt19937 engine(seed);
  for (rq::index d = 0; d < dim; ++d) {  // no two columns alike, some zero points beyond the codes
    f.q_zero.push_back(90 + static_cast<std::int32_t>(engine() % 61));
    f.v_zero.push_back(static_cast<std::int32_t>(engine() % 400) - 70);
    f.value_scale.push_back(0.01F + 1e-4F * static_cast<float>(engine() % 200));
  }
  f.q_zero.front() = 120;
  f.v_zero.front() = -3;
  for (auto* m : {&f.q, &f.k, &f.v}) {
    m->resize(static_cast<std::size_t>((m == &f.q ? queries : keys) * f.stride()));
    for (auto& c : *m) c = static_cast<std::uint8_t>(engine() % (1U << f.head.code_bits));
  }
  return f;
}

struct outcome {
  std::vector<float> out;
  std::vector<std::uint8_t> codes;
};

template<class Arch>
outcome attend(fixture& f, std::size_t misaligned) {
  const rq::attention_head& h = f.linked();
  outcome r;
  const rq::index out_stride = h.head_dim + 1;
  r.out.assign(static_cast<std::size_t>(h.queries * out_stride), 77.0F);
  r.codes.resize(static_cast<std::size_t>(h.queries * h.keys));
  const std::size_t size = rq::attention_scratch_size(h.queries, h.keys, h.head_dim);
  std::vector<std::byte> scratch(size + misaligned + 16, std::byte{0xA5});
  const rq::attention_operands x{f.q.data(), f.stride(), f.k.data(),   f.stride(),
                                 f.v.data(), f.stride(), r.out.data(), out_stride};
  rq::attend<Arch>(h, x, std::span(scratch).subspan(misaligned, size),
                   [&](rq::index i, const std::uint8_t* codes, rq::index keys) {
                     std::copy(codes, codes + keys, r.codes.data() + i * keys);
                   });
  for (std::size_t i = size + misaligned; i < scratch.size(); ++i) CHECK(scratch[i] == std::byte{0xA5});
  for (rq::index i = 0; i < h.queries; ++i) {
    CHECK(r.out[static_cast<std::size_t>(i * out_stride + h.head_dim)] == 77.0F);
  }
  return r;
}

/// The head as a simulation runs it: exact sums in int64 loops, held in double, and the shared float steps.
outcome simulate(const fixture& f) {
  const rq::attention_head& h = f.head;
  const rq::probability_code& code = h.probability;
  const int kind = static_cast<int>(code.kind);
  const int levels = 1 << code.bits;
  int smallest = levels - (code.zero == rq::zero_rule::last_code ? 2 : 1);
  while (kind != 0 && smallest / kind > code.depth) --smallest;
  outcome r;
  r.codes.resize(static_cast<std::size_t>(h.queries * h.keys));
  r.out.assign(static_cast<std::size_t>(h.queries * (h.head_dim + 1)), 77.0F);
  for (rq::index i = 0; i < h.queries; ++i) {
    rq::index visible = h.keys;
    if (h.causal) visible = std::min(visible, std::max<rq::index>(0, i + h.keys - h.queries + 1));
    std::vector<double> sums(static_cast<std::size_t>(h.keys));
    for (rq::index j = 0; j < h.keys; ++j) {
      std::int64_t sum = 0;
      for (rq::index d = 0; d < h.head_dim; ++d) {
        sum += (std::int64_t{f.q[static_cast<std::size_t>(i * f.stride() + d)]} -
                f.q_zero[static_cast<std::size_t>(d)]) *
               (std::int64_t{f.k[static_cast<std::size_t>(j * f.stride() + d)]} - h.k_zero);
      }
      sums[static_cast<std::size_t>(j)] = static_cast<double>(sum);
    }
    std::vector<float> p(static_cast<std::size_t>(rq::probability_scratch(h.keys)));
    const std::span<std::uint8_t> row(r.codes.data() + i * h.keys, sums.size());
    rq::probability_row<rq::scalar_arch, double>(code, sums, h.score_multiplier, visible, p, row);
    std::vector<double> part[2];
    for (auto& s : part) s.assign(static_cast<std::size_t>(h.head_dim), 0.0);
    for (rq::index d = 0; d < h.head_dim; ++d) {
      std::int64_t exact[2] = {0, 0};
      for (rq::index j = 0; j < visible; ++j) {
        const std::int64_t v = std::int64_t{f.v[static_cast<std::size_t>(j * f.stride() + d)]} -
                               f.v_zero[static_cast<std::size_t>(d)];
        const int c = row[static_cast<std::size_t>(j)];
        if (kind == 0) {
          exact[0] += (c - code.zero_point) * v;
        } else if (c <= smallest) {
          exact[c % kind] += (std::int64_t{1} << (smallest / kind - c / kind)) * v;
        }
      }
      for (int s = 0; s < 2; ++s) part[s][static_cast<std::size_t>(d)] = static_cast<double>(exact[s]);
    }
    float factor = 1;
    if (code.relative) {
      std::int64_t weights[2] = {0, 0};
      for (rq::index j = 0; j < visible; ++j) {
        const int c = row[static_cast<std::size_t>(j)];
        if (kind == 0) weights[0] += c;
        if (kind != 0 && c <= smallest) weights[c % kind] += std::int64_t{1} << (smallest / kind - c / kind);
      }
      const float unit = kind == 0 ? code.scale : std::ldexp(1.0F, -(smallest / kind));
      float total = static_cast<float>(weights[0]) * unit;
      if (kind == 2) total += rq::lane::mul(static_cast<float>(weights[1]), unit * 0.70710678F);
      factor = total > 0 ? 1.0F / total : 0.0F;
    }
    std::vector<float> even_scale(f.value_scale.size());
    std::vector<float> odd_scale(f.value_scale.size());
    rq::value_row<rq::scalar_arch, double>(
        part[0], std::span<const double>(part[1]).first(kind == 2 ? part[1].size() : 0),
        rq::scales_of<rq::scalar_arch>(code, f.value_scale, even_scale, odd_scale),
        std::span<float>(r.out.data() + i * (h.head_dim + 1), static_cast<std::size_t>(h.head_dim)), factor);
  }
  return r;
}

void same_everywhere(fixture& f) {
  REQUIRE(!rq::check(f.linked(), "head"));
  const outcome want = simulate(f);
  for (std::size_t misaligned : {std::size_t{0}, std::size_t{8}}) {
    const outcome wide = attend<rq::default_arch>(f, misaligned);
    CHECK(wide.codes == want.codes);
    CHECK(oracle::same_bits(wide.out, want.out));
  }
  const outcome scalar = attend<rq::scalar_arch>(f, 0);
  CHECK(scalar.codes == want.codes);
  CHECK(oracle::same_bits(scalar.out, want.out));
}

std::vector<rq::probability_code> codes_to_try() {
  std::vector<rq::probability_code> all;
  using kind = rq::probability_kind;
  for (int bits : {3, 4, 8}) {
    all.push_back(
        {.kind = kind::as_uniform, .bits = bits, .scale = 0.9F / static_cast<float>((1 << bits) - 1)});
    for (kind k : {kind::as_log2, kind::as_log_sqrt2}) {
      for (rq::zero_rule zero : {rq::zero_rule::last_code, rq::zero_rule::none}) {
        all.push_back({.kind = k, .bits = bits, .zero = zero, .depth = bits == 8 ? 29 : 30, .scale = 0.97F});
      }
    }
  }
  for (int bits : {3, 4, 8}) {
    for (kind k : {kind::as_uniform, kind::as_log2, kind::as_log_sqrt2}) {
      rq::probability_code code{.kind = k, .bits = bits, .depth = 14, .relative = true};
      code.scale = code.relative_scale();
      all.push_back(code);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("attend equals the simulation, bit for bit, for every codec, shape and mask") {
  unsigned seed = 0;
  for (const rq::probability_code& code : codes_to_try()) {
    for (rq::shape s :
         {rq::shape{1, 1}, rq::shape{1, 17}, rq::shape{7, 7}, rq::shape{13, 31}, rq::shape{20, 11}}) {
      for (rq::index dim : {1, 8, 37}) {
        fixture f = make(s.rows, s.cols, dim, code, ++seed);
        INFO("kind " << static_cast<int>(code.kind) << " bits " << code.bits << " shape " << s.rows << " x "
                     << s.cols << " x " << dim);
        same_everywhere(f);
        f.head.causal = true;  // 20 queries of 11 keys: the first nine see none
        same_everywhere(f);
      }
    }
  }
}

TEST_CASE("attend is exact where int32 or int16 would not be") {
  using kind = rq::probability_kind;
  // 900 keys of shift 14: the sums need int64; scores all equal and all extreme
  fixture f = make(3, 900, 16, {.kind = kind::as_log2, .bits = 4}, 5);
  CHECK(rq::detail::forms_of(f.linked()).value_wide);
  same_everywhere(f);
  std::fill(f.v.begin(), f.v.end(), std::uint8_t{255});
  std::fill(f.v_zero.begin(), f.v_zero.end(), 0);
  f.head.score_multiplier = 0.0F;
  same_everywhere(f);
  // zero points that no int16 holds: what a constant tensor gets
  for (std::int32_t zero : {-(1 << 22), 1 << 22, 40000}) {
    fixture g = make(4, 9, 8, {.kind = kind::as_log_sqrt2, .bits = 4}, 6);
    g.v_zero[3] = zero;
    const rq::attention_head h = g.linked();
    CHECK(rq::detail::value_corrections_fit(rq::instruction_set::scalar, h, rq::detail::forms_of(h)) ==
          (zero == 40000));
    same_everywhere(g);
    g.head.causal = true;
    g.head.probability.zero = rq::zero_rule::none;
    same_everywhere(g);
    g = make(4, 9, 8, {.kind = kind::as_uniform, .bits = 4, .scale = 0.07F}, 7);
    g.q_zero[5] = zero;
    g.head.score_multiplier = 1e-9F;
    CHECK(rq::detail::forms_of(g.linked()).score_wide == (zero != 40000));
    same_everywhere(g);
  }
  // zero points that int16 holds, but score sums beyond int32
  fixture w = make(5, 9, 64, {.kind = kind::as_log_sqrt2, .bits = 4}, 8);
  w.q_zero[0] = w.q_zero[40] = w.q_zero[63] = -32000;
  w.head.k_zero = 32000;
  w.head.score_multiplier = 1e-8F;
  CHECK_FALSE(rq::detail::forms_of(w.linked()).score_wide);  // the part of k_zero is the same for all keys
  same_everywhere(w);
  // uniform probabilities whose zero point is not a code: masked keys then have weight
  fixture u = make(6, 10, 8, {.kind = kind::as_uniform, .bits = 4, .scale = 0.05F, .zero_point = -3}, 9);
  u.head.causal = true;
  same_everywhere(u);
}

TEST_CASE("adversarial fills of every operand") {
  using kind = rq::probability_kind;
  for (std::uint8_t a : {std::uint8_t{0}, std::uint8_t{255}}) {
    for (std::uint8_t b : {std::uint8_t{0}, std::uint8_t{255}}) {
      for (kind k : {kind::as_uniform, kind::as_log2, kind::as_log_sqrt2}) {
        fixture f =
            make(9, 33, 64, {.kind = k, .bits = 4, .scale = k == kind::as_uniform ? 1.0F / 15 : 1.0F}, 4);
        f.head.k_zero = 0;
        std::fill(f.q_zero.begin(), f.q_zero.end(), 0);
        std::fill(f.v_zero.begin(), f.v_zero.end(), 0);
        std::fill(f.q.begin(), f.q.end(), a);
        std::fill(f.k.begin(), f.k.end(), b);
        for (std::size_t i = 0; i < f.v.size(); ++i) f.v[i] = i % 2 == 0 ? a : b;
        same_everywhere(f);
      }
    }
  }
}

TEST_CASE("attend touches nothing outside its operands, and keys and values serve several heads") {
  using kind = rq::probability_kind;
  for (kind k : {kind::as_uniform, kind::as_log2, kind::as_log_sqrt2}) {
    for (int bits : {4, 8}) {
      for (rq::shape s : {rq::shape{1, 70}, rq::shape{18, 37}, rq::shape{33, 64}}) {
        fixture f = make(s.rows, s.cols, 19,
                         {.kind = k, .bits = bits, .scale = k == kind::as_uniform ? 1.0F / 15 : 1.0F}, 3);
        f.head.code_bits = bits;
        for (auto* m : {&f.q, &f.k, &f.v}) {
          for (auto& c : *m) c = static_cast<std::uint8_t>(c % (1 << bits));
        }
        f.head.causal = s.rows == 33;
        const rq::attention_head& h = f.linked();
        REQUIRE(!rq::check(h, "head"));
        const outcome want = simulate(f);
        const auto bytes = [&](rq::index rows) {
          return static_cast<std::size_t>((rows - 1) * f.stride() + h.head_dim);
        };
        for (guarded::edge edge : {guarded::edge::front, guarded::edge::back}) {
          const guarded::memory<std::uint8_t> q(std::span<const std::uint8_t>(f.q).first(bytes(s.rows)),
                                                edge);
          const guarded::memory<std::uint8_t> keys(std::span<const std::uint8_t>(f.k).first(bytes(s.cols)),
                                                   edge);
          const guarded::memory<std::uint8_t> v(std::span<const std::uint8_t>(f.v).first(bytes(s.cols)),
                                                edge);
          const guarded::memory<std::byte> room(rq::packed_keys_values_size(s.cols, h.head_dim), edge);
          const guarded::memory<std::byte> scratch(rq::attention_scratch_size(s.rows, s.cols, h.head_dim),
                                                   edge);
          const rq::index out_stride = h.head_dim + 1;
          const guarded::memory<float> out(static_cast<std::size_t>(s.rows * out_stride - 1), edge);
          const rq::attention_operands x{q.data(), f.stride(), keys.data(), f.stride(),
                                         v.data(), f.stride(), out.data(),  out_stride};
          const rq::packed_keys_values packed = rq::pack_keys_values(h, x, room.span());
          for (int head = 0; head < 2;
               ++head) {  // the second has other zero points, and the same keys and values
            fixture other = f;
            if (head == 1) std::reverse(other.q_zero.begin(), other.q_zero.end());
            const outcome expected = head == 0 ? want : (static_cast<void>(other.linked()), simulate(other));
            rq::attend(other.linked(), x, packed, scratch.span());
            bool same = true;
            for (rq::index i = 0; i < s.rows; ++i) {
              for (rq::index d = 0; d < h.head_dim; ++d) {
                same = same && oracle::bits(out.data()[i * out_stride + d]) ==
                                   oracle::bits(expected.out[static_cast<std::size_t>(i * out_stride + d)]);
              }
            }
            CHECK(same);
          }
          rq::attend(h, x, scratch.span());
          CHECK(oracle::bits(out.data()[0]) == oracle::bits(want.out[0]));
        }
      }
    }
  }
}

TEST_CASE("attention on codes is close to attention in double") {
  // 8-bit operands, log_sqrt2 with 6 bits: a code is at most a quarter octave from its probability, so a
  // level is at most 2^(1/4) - 1 = 19 % off, and so is every partial sum of |v|
  fixture f = make(16, 40, 32, {.kind = rq::probability_kind::as_log_sqrt2, .bits = 6}, 3);
  const outcome got = attend<rq::default_arch>(f, 0);
  const rq::attention_head& h = f.head;
  double worst = 0;
  for (rq::index i = 0; i < h.queries; ++i) {
    std::vector<double> scores(static_cast<std::size_t>(h.keys), 0.0);
    for (rq::index j = 0; j < h.keys; ++j) {
      for (rq::index d = 0; d < h.head_dim; ++d) {
        scores[static_cast<std::size_t>(j)] +=
            (f.q[static_cast<std::size_t>(i * f.stride() + d)] - f.q_zero[static_cast<std::size_t>(d)]) *
            (f.k[static_cast<std::size_t>(j * f.stride() + d)] - h.k_zero) *
            static_cast<double>(h.score_multiplier);
      }
    }
    const std::vector<double> p = oracle::softmax(scores);
    for (rq::index d = 0; d < h.head_dim; ++d) {
      double want = 0;
      double magnitude = 0;
      for (rq::index j = 0; j < h.keys; ++j) {
        const double v =
            (f.v[static_cast<std::size_t>(j * f.stride() + d)] - f.v_zero[static_cast<std::size_t>(d)]) *
            static_cast<double>(f.value_scale[static_cast<std::size_t>(d)]);
        want += p[static_cast<std::size_t>(j)] * v;
        magnitude += p[static_cast<std::size_t>(j)] * std::fabs(v);
      }
      const double error = std::fabs(got.out[static_cast<std::size_t>(i * (h.head_dim + 1) + d)] - want);
      worst = std::max(worst, error / magnitude);
    }
  }
  CHECK(worst <= 0.19);
  CHECK(worst > 0);
}

TEST_CASE("check names what cannot run") {
  fixture f = make(2, 3, 4, {}, 1);
  rq::attention_head h = f.linked();
  CHECK(!rq::check(h, "head"));
  h.keys = 0;
  CHECK(rq::check(h, "head").code == rq::errc::empty);
  h.keys = 3;
  h.code_bits = 9;
  CHECK(rq::check(h, "head").code == rq::errc::bad_bits);
  h.code_bits = 8;
  h.probability.depth = 31;
  CHECK(rq::check(h, "head").code == rq::errc::bad_option);
  h.probability = {.kind = rq::probability_kind::as_log2, .bits = 4, .relative = true};
  CHECK_FALSE(rq::check(h, "head"));
  h.probability.scale = 0.5F;
  CHECK(rq::check(h, "head").code == rq::errc::bad_option);
  h.probability = {.bits = 4, .zero = rq::zero_rule::none, .relative = true};
  CHECK(rq::check(h, "head").code == rq::errc::bad_option);
  h.probability = {.kind = rq::probability_kind::as_uniform, .bits = 4, .scale = 1.0F / 15, .relative = true};
  CHECK_FALSE(rq::check(h, "head"));
  h.probability.zero_point = 1;
  CHECK(rq::check(h, "head").code == rq::errc::bad_option);
  h.probability = {.kind = rq::probability_kind::as_log2, .bits = 8};
  for (float bad : {-1e-4F, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    h.score_multiplier = bad;
    CHECK(rq::check(h, "head").code == rq::errc::bad_option);
  }
  h.score_multiplier = 1e-4F;
  f.v_zero[2] = 1 << 22;
  h.keys = 2047;
  CHECK(!rq::check(h, "head"));
  h.keys = 2049;  // 2^11 2^30 2^22 = 2^63
  rq::failure large = rq::check(h, "head");
  CHECK((large.code == rq::errc::too_large && large.got == 2049 && large.want == 2047));
  h.keys = 3;
  f.q_zero = {2147483647, 2147483647, 2147483647, 0};  // 3 (2^31 - 1) + 255
  h.k_zero = 1431655710;                               // times this is more than 2^63
  large = rq::check(h, "head");
  CHECK((large.code == rq::errc::too_large && large.got == 3LL * 2147483647 + 255));
  CHECK(large.want < large.got);
  h.k_zero = 1431655709;
  CHECK(!rq::check(h, "head"));
  h.value_scale = h.value_scale.first(3);
  CHECK(rq::check(h, "head").code == rq::errc::shape_mismatch);
}
