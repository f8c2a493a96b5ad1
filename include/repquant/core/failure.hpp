// SPDX-License-Identifier: MIT
/// How host functions say that something is wrong: result<T>, failure, describe().
///
/// A failure names the place the user knows and the two numbers that disagree. It is trivially
/// copyable and never allocates. Nothing in the library prints. The device (run.hpp) needs only
/// `failure`; its functions return one from `prepare` and cannot fail after that.
#pragma once

#include <repquant/core/config.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#if REPQUANT_EXCEPTIONS
#include <exception>
#endif

namespace repquant {

/// What went wrong.
enum class errc : std::uint8_t {
  ok,                     ///< nothing
  empty,                  ///< no rows, no samples, no bytes
  shape_mismatch,         ///< two sizes that must agree do not
  non_finite,             ///< NaN or infinity in the data; got = how many
  bad_bits,               ///< a bit width outside 2 .. 8
  bad_option,             ///< a setting outside its documented range
  group_mismatch,         ///< columns not divisible by the group size
  not_positive_definite,  ///< a Gram matrix that no damping could mend
  unknown_site,           ///< a path that the block does not have
  duplicate_site,         ///< a path visited twice
  bad_format,             ///< bytes that are not what they should be
  bad_checksum,           ///< bytes that were changed
  too_large,              ///< a size that the arithmetic is not proved for
  cancelled,              ///< the progress callback said stop
  io,                     ///< a file could not be opened, read or written
};

/// The sentence for an error code.
constexpr const char* message(errc code) noexcept {
  switch (code) {
    case errc::ok:
      return "ok";
    case errc::empty:
      return "nothing there";
    case errc::shape_mismatch:
      return "sizes do not agree";
    case errc::non_finite:
      return "NaN or infinity";
    case errc::bad_bits:
      return "bits out of range";
    case errc::bad_option:
      return "setting out of range";
    case errc::group_mismatch:
      return "columns not divisible by the group";
    case errc::not_positive_definite:
      return "matrix not positive definite";
    case errc::unknown_site:
      return "no such site";
    case errc::duplicate_site:
      return "site visited twice";
    case errc::bad_format:
      return "not the expected format";
    case errc::bad_checksum:
      return "checksum differs";
    case errc::too_large:
      return "too large";
    case errc::cancelled:
      return "cancelled";
    case errc::io:
      return "cannot read or write";
  }
  return "unknown";
}

/// An error: what, where, and the two numbers that disagree.
struct failure {
  errc code = errc::ok;
  char where[96] = {};    ///< the place, e.g. "block.2.fc2.in: columns"; cut at 95 characters
  std::int64_t got = 0;   ///< what was found
  std::int64_t want = 0;  ///< what was needed

  constexpr failure() noexcept = default;
  constexpr failure(errc c, std::string_view place, std::int64_t g = 0, std::int64_t w = 0) noexcept
      : code(c), got(g), want(w) {
    for (std::size_t i = 0; i < place.size() && i + 1 < sizeof where; ++i) where[i] = place[i];
  }

  /// The same error seen from further out: `outer` and ": " are put in front of the place.
  [[nodiscard]] constexpr failure within(std::string_view outer) const noexcept {
    failure f(code, outer, got, want);
    std::size_t n = outer.size() < sizeof where - 1 ? outer.size() : sizeof where - 1;
    const char separator[] = {':', ' '};
    for (char c : separator) {
      if (n + 1 < sizeof where) f.where[n++] = c;
    }
    for (std::size_t i = 0; where[i] != 0 && n + 1 < sizeof where; ++i) f.where[n++] = where[i];
    return f;
  }

  /// True when there is an error: `if (failure f = prepare(...)) ...`.
  constexpr explicit operator bool() const noexcept { return code != errc::ok; }
};
static_assert(std::is_trivially_copyable_v<failure>);

/// Writes one sentence, "place: message (got G, want W)", ended by a NUL, into `out`.
/// Returns the number of characters written without the NUL; a longer sentence is cut.
inline std::size_t describe(const failure& f, std::span<char> out) noexcept {
  if (out.empty()) return 0;
  const int n = std::snprintf(out.data(), out.size(), "%s: %s (got %lld, want %lld)", f.where,
                              message(f.code), static_cast<long long>(f.got), static_cast<long long>(f.want));
  if (n < 0) return 0;
  return static_cast<std::size_t>(n) < out.size() ? static_cast<std::size_t>(n) : out.size() - 1;
}

#if REPQUANT_EXCEPTIONS
/// Thrown by result<T>::value() on a failure, where exceptions are on. Nothing else throws.
class bad_result : public std::exception {
 public:
  explicit bad_result(const failure& f) noexcept : failure_(f) { describe(f, text_); }
  [[nodiscard]] const failure& error() const noexcept { return failure_; }
  [[nodiscard]] const char* what() const noexcept override { return text_; }

 private:
  failure failure_;
  char text_[192] = {};
};
#endif

/// A value or the failure that prevented it. The vocabulary of std::expected.
template<class T>
class [[nodiscard]] result {
 public:
  using value_type = T;
  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit on purpose
  result(const failure& f) : state_(std::in_place_index<1>, f) {         // NOLINT: implicit on purpose
    REPQUANT_ASSERT(f.code != errc::ok);
  }

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  [[nodiscard]] const failure& error() const noexcept {
    REPQUANT_ASSERT(!has_value());
    return *std::get_if<1>(&state_);
  }
  T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() noexcept { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept { return std::get_if<0>(&state_); }

  /// The value; on a failure throws bad_result, or aborts where exceptions are off.
  T& value() & { return *checked(); }
  T&& value() && { return std::move(*checked()); }

 private:
  T* checked() {
    if (!has_value()) {
#if REPQUANT_EXCEPTIONS
      throw bad_result(error());
#else
      std::abort();
#endif
    }
    return std::get_if<0>(&state_);
  }
  std::variant<T, failure> state_;
};

}  // namespace repquant
