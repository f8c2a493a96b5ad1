// SPDX-License-Identifier: MIT
/// tape: reverse-mode differentiation over matrices. The other files of this folder are operations that
/// record themselves on it, and what is done with the gradients.
///
/// An operation is a free function in namespace differentiable (its name is often that of a plain layer) that
/// asks for the place of its result, fills it, and leaves a function that adds to the gradients of its
/// operands. A tape that is cleared keeps its memory: a second pass over
/// matrices of the same sizes allocates no matrix.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <deque>
#include <functional>
#include <initializer_list>
#include <utility>

namespace repquant {

/// A value on a tape. Only a number for it.
struct node {
  int id = -1;
};

/// What was computed, in order, and how to go back.
///
///   tape t;
///   const node w = t.variable(weight);                    // borrowed: `weight` must outlive the pass
///   const node y = differentiable::linear(t, t.constant(x), w);
///   const node loss = differentiable::mean_squared_error(t, y, target);
///   t.backward(loss);
///   t.gradient(w)                                         // d loss / d weight
///
/// Requires  shapes that fit (checked in debug builds); one thread per tape
class tape {
 public:
  tape() = default;
  tape(tape&&) noexcept = default;
  tape& operator=(tape&&) noexcept = default;
  tape(const tape&) = delete;
  tape& operator=(const tape&) = delete;
  ~tape() = default;

  /// A leaf whose gradient is wanted. Looks at `x`, which must live and stay as it is until clear().
  node variable(const matrix<>& x) { return leaf(&x, true); }
  /// The same, of a matrix that the tape keeps.
  node variable(matrix<>&& x) { return leaf(std::move(x), true); }
  /// A leaf without a gradient. Looks at `x`, which must live and stay as it is until clear().
  node constant(const matrix<>& x) { return leaf(&x, false); }
  node constant(matrix<>&& x) { return leaf(std::move(x), false); }

  [[nodiscard]] const matrix<>& value(node n) const { return *at(n).value; }
  /// d loss / d value(n) after backward; zeros where the loss does not depend on it.
  ///
  /// Requires  n is a variable or depends on one
  [[nodiscard]] const matrix<>& gradient(node n) const { return at(n).gradient; }
  [[nodiscard]] index size() const noexcept { return used_; }

  /// Computes the gradients of everything that `loss` depends on.
  ///
  /// Shapes  loss [1 x 1]
  /// Cost    about two forward passes
  void backward(node loss) {
    REPQUANT_ASSERT(value(loss).size() == 1);
    for (index i = 0; i < used_; ++i) entries_[static_cast<std::size_t>(i)].touched = false;
    gradient_of(loss).setOnes();
    for (int i = loss.id; i >= 0; --i) {
      entry& e = entries_[static_cast<std::size_t>(i)];
      if (e.touched && e.backward) e.backward(*this);
    }
    for (index i = 0; i < used_; ++i) {
      const node n{static_cast<int>(i)};
      if (wanted(n)) gradient_of(n);
    }
  }
  /// Forgets what was recorded and keeps the memory.
  void clear() noexcept { used_ = 0; }

  // -- for operations -------------------------------------------------------------------------------

  /// Place for a result; its gradient is wanted where that of any operand is.
  node result(index rows, index cols, std::initializer_list<node> operands) {
    entry& e = next();
    e.own.resize(rows, cols);
    e.value = &e.own;
    e.wanted = false;
    for (node n : operands) e.wanted = e.wanted || at(n).wanted;
    return {static_cast<int>(used_ - 1)};
  }
  [[nodiscard]] matrix<>& value_of(node n) { return at(n).own; }
  /// A matrix that an operation may keep from its forward pass for its backward pass.
  [[nodiscard]] matrix<>& saved(node n) { return at(n).saved; }
  [[nodiscard]] bool wanted(node n) const { return at(n).wanted; }
  /// f(tape) will be called in backward if the loss depends on `n`.
  template<class F>
  void on_backward(node n, F&& f) {
    if (at(n).wanted) at(n).backward = std::forward<F>(f);
  }
  /// gradient(n) += expression, an Eigen expression that does not read gradient(n); nothing where it is not
  /// wanted.
  template<class Expression>
  void add_gradient(node n, const Expression& expression) {
    entry& e = at(n);
    if (!e.wanted) return;
    if (e.touched) {
      e.gradient.noalias() += expression;
    } else {
      e.gradient.resize(e.value->rows(), e.value->cols());
      e.gradient.noalias() = expression;
      e.touched = true;
    }
  }
  /// The gradient of n, to be added to; zeros at first.
  matrix<>& gradient_of(node n) {
    entry& e = at(n);
    if (!e.touched) e.gradient.setZero(e.value->rows(), e.value->cols());
    e.touched = true;
    return e.gradient;
  }

 private:
  struct entry {
    matrix<> own;
    const matrix<>* value = nullptr;
    matrix<> gradient;
    matrix<> saved;
    bool wanted = false;
    bool touched = false;
    std::function<void(tape&)> backward;
  };

  [[nodiscard]] entry& at(node n) { return entries_[static_cast<std::size_t>(n.id)]; }
  [[nodiscard]] const entry& at(node n) const { return entries_[static_cast<std::size_t>(n.id)]; }
  entry& next() {
    if (static_cast<std::size_t>(used_) == entries_.size()) entries_.emplace_back();
    entry& e = entries_[static_cast<std::size_t>(used_++)];
    e.backward = nullptr;
    return e;
  }
  node leaf(const matrix<>* x, bool wanted) {
    entry& e = next();
    e.value = x;
    e.wanted = wanted;
    return {static_cast<int>(used_ - 1)};
  }
  node leaf(matrix<>&& x, bool wanted) {
    entry& e = next();
    e.own = std::move(x);
    e.value = &e.own;
    e.wanted = wanted;
    return {static_cast<int>(used_ - 1)};
  }

  std::deque<entry> entries_;  // places stay where they are
  index used_ = 0;
};

}  // namespace repquant
