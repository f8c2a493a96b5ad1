// SPDX-License-Identifier: MIT
/// histogram: a stream of floats in bounded memory, as integer counts in bins of the float's bit pattern.
///
/// The 32 smallest and the 32 largest values are kept exactly. The rest is counted in bins that share sign,
/// exponent and the first `mantissa_bits()` mantissa bits, so that a bin is 2^-mantissa_bits of its value
/// wide or less. Bins come in pages of 256. While the data fill at most 32 pages, bins are as fine as that
/// allows (with all 23 mantissa bits values are exact); when they would fill more, neighbouring bins are
/// joined, down to 8 mantissa bits, where a page is an octave and pages are not limited. So a channel of
/// values near 1000 with a spread of 1 gets bins for that spread, not for its octave.
///
/// Which values are in bins, and how fine the bins are, depends only on the multiset of values seen: a value
/// in a bin stays in bins, joined bins are never split, and the number of pages only grows. So the order and
/// split of batches, the order of merging, and threads do not change anything, bit for bit.
///
/// Length: one class with one invariant; what is computed from the counts is in distribution.hpp.
#pragma once

#include <repquant/core/shape.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace repquant {

/// Counts of a stream of floats. Minus zero counts as zero.
///
/// Precision  the 32 smallest and 32 largest values: exact. Others: 2^-8 of the value or finer (below 2^-126:
///            2^-134 or finer)
/// Cost       memory: 0.3 KB up to 64 values, none of it on the heap; 40 KB for data over 16 octaves of both
///            signs (and 4 KB on the way there); at most 0.54 MB, for data in every octave of both signs
///            (twice that after 2^32 values)
class histogram {
 public:
  static constexpr int tail = 32;                 ///< how many of the smallest and of the largest are exact
  static constexpr int fewest_mantissa_bits = 8;  ///< the coarsest bins
  static constexpr int fine_pages = 32;  ///< a limit on pages for as long as joining bins can keep it

  /// Values that share a bin: `count` of them in [lo, hi]. Where lo == hi the value is exact.
  struct bin {
    float lo;
    float hi;
    std::uint64_t count;
  };

  /// Takes values in. NaN and infinities are only counted.
  void observe(std::span<const float> xs) {
    std::size_t i = 0;
    while (i < xs.size() && count_ < 2 * tail) insert(xs[i++]);
    while (i < xs.size()) i += observe_inner(xs.subspan(i));
  }

  /// Takes in all that `other` has seen.
  void merge(const histogram& other) {
    if (&other == this) return merge(histogram(other));
    non_finite_ += other.non_finite_;
    for (float x : other.exact()) insert(x);
    for (std::uint32_t pattern : other.waiting_) wait(pattern);
    count_ += other.waiting_.size();
    if (other.names_.empty()) return;
    // other cannot be finer with its own values alone, so neither can the two together
    if (mantissa_bits_ > other.mantissa_bits_) join(mantissa_bits_ - other.mantissa_bits_);
    std::vector<std::uint32_t> names = other.names_;
    for (std::uint32_t& name : names) name >>= other.mantissa_bits_ - mantissa_bits_;
    make_room(std::move(names));
    for (std::size_t i = 0; i < other.counts_.size(); ++i) {
      const std::uint64_t n = other.count_at(i);
      if (n == 0) continue;
      add(other.place_at(i) << (23 - other.mantissa_bits_), n);
      count_ += n;
    }
  }

  /// How many finite values were seen.
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// How many NaN and infinities were seen.
  [[nodiscard]] std::uint64_t non_finite() const noexcept { return non_finite_; }
  /// The smallest value, exactly. Requires  count() > 0
  [[nodiscard]] float min() const noexcept { return extremes_[0]; }
  /// The largest value, exactly. Requires  count() > 0
  [[nodiscard]] float max() const noexcept { return exact().back(); }
  /// The values that are known exactly, ascending: all of them up to 64, else the 32 smallest and 32 largest.
  [[nodiscard]] std::span<const float> exact() const noexcept {
    return {extremes_.data(), static_cast<std::size_t>(std::min<std::uint64_t>(count_, 2 * tail))};
  }
  /// How many mantissa bits a bin distinguishes: 8 to 23.
  [[nodiscard]] int mantissa_bits() const {
    return waiting_.empty() ? mantissa_bits_ : settled().mantissa_bits_;
  }
  /// Memory in use, in bytes.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return sizeof *this + slots_.capacity() * sizeof(std::uint16_t) +
           (names_.capacity() + counts_.capacity() + carries_.capacity() + waiting_.capacity()) *
               sizeof(std::uint32_t);
  }

  /// All values, ascending and without overlap: exact ones as bins of one value, the rest as counted.
  [[nodiscard]] std::vector<bin> bins() const {
    if (!waiting_.empty()) return settled().bins();
    const auto known = exact();
    const auto low = std::min<std::ptrdiff_t>(std::ssize(known), tail);
    std::vector<bin> out;
    out.reserve(known.size() + counts_.size() / 2);
    for (float x : known.first(static_cast<std::size_t>(low))) out.push_back({x, x, 1});
    append_inner(out);
    for (float x : known.subspan(static_cast<std::size_t>(low))) out.push_back({x, x, 1});
    return out;
  }

 private:
  // A bin's place is the leading bits of its values; a page's name is the leading bits of its places. slots_
  // is a hash table from names to pages with open addressing. At 8 mantissa bits there are 510 names for 512
  // slots and the hash is the identity; with finer bins there are at most 32 names.
  static constexpr std::size_t slot_count = 512;
  static constexpr std::uint16_t vacant = 0xFFFF;

  [[nodiscard]] std::uint32_t place_at(std::size_t i) const noexcept {
    return (names_[i >> 8] << 8) | static_cast<std::uint32_t>(i & 255U);
  }
  [[nodiscard]] std::uint64_t count_at(std::size_t i) const noexcept {
    return counts_[i] + (carries_.empty() ? 0 : std::uint64_t{carries_[i]} << 32);
  }
  [[nodiscard]] std::uint32_t hash() const noexcept {  // as a factor; the slot is the upper 9 bits
    return mantissa_bits_ == fewest_mantissa_bits ? 1U << 23 : 0x9E3779B1U;
  }
  /// The slot of the page with this name, or the vacant one where it belongs. Requires  slots_ not empty
  static std::size_t find(std::uint32_t name, std::uint32_t factor, const std::uint16_t* slots,
                          const std::uint32_t* names) noexcept {
    std::size_t s = (name * factor) >> 23;
    while (slots[s] != vacant && names[slots[s]] != name) s = (s + 1) & (slot_count - 1);
    return s;
  }

  /// The hot loop: counts values between the tails until one needs more; returns how many it took.
  std::size_t observe_inner(std::span<const float> xs) {
    std::size_t i = 0;
    if (!slots_.empty()) {
      const float low = extremes_[tail - 1];
      const float high = extremes_[tail];
      const int shift = 23 - mantissa_bits_;
      const std::uint32_t factor = hash();
      const std::uint16_t* const slots = slots_.data();
      const std::uint32_t* const names = names_.data();
      std::uint32_t* const counts = counts_.data();
      for (; i < xs.size(); ++i) {
        const float x = xs[i] + 0.0F;  // -0 becomes 0
        if (!(x >= low && x <= high)) break;
        const std::uint32_t place = std::bit_cast<std::uint32_t>(x) >> shift;
        const std::size_t page = slots[find(place >> 8, factor, slots, names)];
        if (page == vacant) break;
        std::uint32_t& n = counts[(page << 8) | (place & 255U)];
        if (n == UINT32_MAX) break;
        ++n;
      }
      count_ += i;
    }
    if (i < xs.size()) insert(xs[i++]);
    return i;
  }

  /// One value, whatever it needs.
  void insert(float x) {
    if (!std::isfinite(x)) {
      ++non_finite_;
      return;
    }
    x += 0.0F;
    float* const first = extremes_.data();
    float* const middle = first + tail;
    if (count_ < 2 * tail) {
      float* const last = first + count_++;
      float* const at = std::upper_bound(first, last, x);
      std::move_backward(at, last, last + 1);
      *at = x;
      return;
    }
    ++count_;
    if (x > *middle) {  // enters the upper tail; its smallest leaves for a bin
      float* const at = std::lower_bound(middle, middle + tail, x);
      const float leaves = *middle;
      std::move(middle + 1, at, middle);
      *(at - 1) = x;
      x = leaves;
    } else if (x < *(middle - 1)) {
      float* const at = std::upper_bound(first, middle, x);
      const float leaves = *(middle - 1);
      std::move_backward(at, middle - 1, middle);
      *at = x;
      x = leaves;
    }
    const auto pattern = std::bit_cast<std::uint32_t>(x);
    if (mantissa_bits_ == fewest_mantissa_bits || has_page(pattern)) {
      add(pattern, 1);
    } else {
      wait(pattern);
    }
  }

  // Opening a page may mean joining bins, and joining is dear: values without a page wait for one together.
  // Waiting shows nowhere: every question is answered as if they had not.
  static constexpr std::size_t most_waiting = 1024;

  [[nodiscard]] bool has_page(std::uint32_t pattern) const noexcept {
    return !slots_.empty() &&
           slots_[find(pattern >> (31 - mantissa_bits_), hash(), slots_.data(), names_.data())] != vacant;
  }
  void wait(std::uint32_t pattern) {
    waiting_.push_back(pattern);
    if (waiting_.size() >= most_waiting) settle();
  }
  /// Puts the waiting values into bins.
  void settle() {
    std::vector<std::uint32_t> names = waiting_;
    for (std::uint32_t& pattern : names) pattern >>= 31 - mantissa_bits_;
    make_room(std::move(names));
    for (std::uint32_t pattern : waiting_) add(pattern, 1);
    waiting_.clear();
    if (mantissa_bits_ == fewest_mantissa_bits)
      std::vector<std::uint32_t>().swap(waiting_);  // no more joining
  }
  [[nodiscard]] histogram settled() const {
    histogram h = *this;
    h.settle();
    return h;
  }

  /// Counts n values whose bits start like `pattern`, on a new page where needed.
  void add(std::uint32_t pattern, std::uint64_t n) {
    if (slots_.empty()) slots_.assign(slot_count, vacant);
    const std::uint32_t name = pattern >> (31 - mantissa_bits_);
    const std::size_t slot = find(name, hash(), slots_.data(), names_.data());
    if (slots_[slot] == vacant) {
      slots_[slot] = static_cast<std::uint16_t>(names_.size());
      names_.push_back(name);
      if (counts_.capacity() < counts_.size() + 256) counts_.reserve(counts_.size() + 8 * 256);
      counts_.resize(counts_.size() + 256);
      if (!carries_.empty()) carries_.resize(counts_.size());
    }
    const std::size_t i = (std::size_t{slots_[slot]} << 8) | ((pattern >> (23 - mantissa_bits_)) & 255U);
    n += count_at(i);
    counts_[i] = static_cast<std::uint32_t>(n);
    if (n >> 32 == 0) return;
    carries_.resize(counts_.size());
    carries_[i] = static_cast<std::uint32_t>(n >> 32);
  }

  /// Joins bins until the pages in use and those of these names are few enough.
  void make_room(std::vector<std::uint32_t> names) {
    names.insert(names.end(), names_.begin(), names_.end());
    std::sort(names.begin(), names.end());
    int bits = 0;
    for (;;) {
      names.erase(std::unique(names.begin(), names.end()), names.end());
      if (names.size() <= fine_pages || mantissa_bits_ - bits == fewest_mantissa_bits) break;
      for (std::uint32_t& name : names) name >>= 1;  // keeps the order: equal names stay neighbours
      ++bits;
    }
    if (bits > 0) join(bits);
  }

  /// Makes bins 2^bits times as wide.
  void join(int bits) {
    histogram coarse;
    coarse.mantissa_bits_ = mantissa_bits_ - bits;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (const std::uint64_t n = count_at(i); n != 0) coarse.add(place_at(i) << (23 - mantissa_bits_), n);
    }
    mantissa_bits_ = coarse.mantissa_bits_;
    slots_ = std::move(coarse.slots_);
    names_ = std::move(coarse.names_);
    counts_ = std::move(coarse.counts_);
    carries_ = std::move(coarse.carries_);
  }

  /// The bins between the tails, ascending.
  void append_inner(std::vector<bin>& out) const {
    const std::uint32_t sign = 1U << mantissa_bits_;  // of a name
    std::vector<std::size_t> order(names_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const bool below = (names_[a] & sign) != 0;  // negative: larger bits are smaller values
      if (below != ((names_[b] & sign) != 0)) return below;
      return below ? names_[a] > names_[b] : names_[a] < names_[b];
    });
    const int shift = 23 - mantissa_bits_;
    for (std::size_t page : order) {
      const bool below = (names_[page] & sign) != 0;
      for (std::size_t k = 0; k < 256; ++k) {
        const std::size_t i = (page << 8) | (below ? 255 - k : k);
        const std::uint64_t n = count_at(i);
        if (n == 0) continue;
        const float a = std::bit_cast<float>(place_at(i) << shift);
        const float b = std::bit_cast<float>((place_at(i) << shift) | ((1U << shift) - 1));
        const float lo = std::max(below ? b : a, extremes_[tail - 1]);
        const float hi = std::min(below ? a : b, extremes_[tail]);
        out.push_back({lo + 0.0F, hi + 0.0F, n});
      }
    }
  }

  std::uint64_t count_ = 0;
  std::uint64_t non_finite_ = 0;
  int mantissa_bits_ = 23;
  std::vector<std::uint16_t> slots_;    // empty until a value is in a bin
  std::vector<std::uint32_t> names_;    // of the pages
  std::vector<std::uint32_t> counts_;   // 256 a page
  std::vector<std::uint32_t> carries_;  // upper halves of the counts, once one needs it
  std::vector<std::uint32_t> waiting_;  // bits of values that wait for a page
  std::array<float, 2 * tail> extremes_{};
};

}  // namespace repquant
