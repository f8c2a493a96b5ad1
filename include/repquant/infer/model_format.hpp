// SPDX-License-Identifier: MIT
/// The saved form of a quantized model: one span of bytes, read where it lies (infer/model.hpp).
///
/// Layout (little-endian, every part on a multiple of 8 bytes):
///
///   header | instructions | register widths | sites | constants
///
/// Codes are stored canonically, one byte each, so that a model is the same on every machine; packing
/// for an instruction set is the engine's business (infer/engine.hpp). The checksum is FNV-1a over all
/// bytes, its own taken as zero.
#pragma once

#include <repquant/core/checksum.hpp>
#include <repquant/infer/probability_kind.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace repquant {

static_assert(std::endian::native == std::endian::little,
              "repquant: models are read in place, little-endian");

/// What an instruction does with its registers. `cols` is the columns of the result.
enum class opcode : std::uint8_t {
  encode,       ///< codes out = encode(float a); data[0] affine, one or cols of them; see `instruction`
  linear,       ///< float out = requantize(codes a, weights); see `instruction`
  norm,         ///< float out = layer_norm or rms_norm(float a); data[0] gamma, data[1] beta
  attention,    ///< float out = attention(codes a, b, c)
  add,          ///< float out = a + b
  multiply,     ///< float out = a * b
  activate,     ///< float out = f(a)
  prepend_row,  ///< float out = [row; a]; data[0] the row
  add_rows,     ///< float out = a + table; data[0] the table, `inner` its rows
  select_row,   ///< float out = row `row` of a; negative counts from the last
  mean_rows,    ///< float out = mean over the rows of a
  rotate,       ///< float out = rotary positions; data[0] cosines, data[1] sines, [inner x cols / (2 heads)]
  hadamard,     ///< float out = hadamard_row(a); data[0] factors
  mix_heads,    ///< float out = mix_heads_row(a); data[0] matrices [cols x inner]
};

/// One step of a quantized model. Registers are numbers; data are byte offsets into the constants.
///
///   encode     where inner > 0, encode_with_feedback in blocks of so many channels. data: affine, unit float
///              [cols], order bytes [cols], reach bytes, as kernel/error_feedback.hpp says
///   linear     y[t][o] = float(sum_k (a[t][k] - zero_a) (w[o][k] - zw[o])) m[o] + c[o]
///              data: w bytes [cols x inner], zw int32 [cols], m float [cols], c float [cols]
///   attention  s = sum_d (a[d] - za[d])(b[d] - zero_b); p = encode(softmax(s m[head])), both as
///              infer/probability_codes.hpp says;
///              out[d] = (sum p (c[d] - zc[d])) sc[d] as kernel/log_product.hpp says; of relative codes,
///              times the factor of infer/code_weights.hpp data: m float [heads], za int32 [heads x inner],
///              zc int32 [kv_heads x inner], sc float [kv_heads x inner]. Keys have one zero_b, any integer,
///              though their encode may have a zero point per column: what all keys of a column have in
///              common, the softmax takes out (infer/attention_head.hpp)
struct instruction {
  opcode kind = opcode::add;
  std::uint8_t function = 0;    ///< activate: activation
  std::uint8_t per_column = 0;  ///< encode: one affine per column
  std::uint8_t flag = 0;        ///< norm: 1 is rms_norm; attention: 1 is causal
  std::int32_t out = -1;        ///< result register
  std::int32_t a = -1;          ///< operands
  std::int32_t b = -1;
  std::int32_t c = -1;
  std::int32_t cols = 0;   ///< columns of the result
  std::int32_t inner = 0;  ///< linear: columns of a; attention, mix_heads: head size; encode: block
  std::int32_t heads = 0;  ///< attention
  std::int32_t kv_heads = 0;
  std::int32_t site = -1;             ///< encode: its site; attention: the site of the probabilities
  std::int32_t bits = 0;              ///< encode: of the code; linear: of the weights
  std::int32_t bits_a = 0;            ///< linear, attention: of the codes in a (b and c have the same)
  std::int32_t zero_a = 0;            ///< linear
  std::int32_t zero_b = 0;            ///< attention
  std::int32_t row = 0;               ///< select_row
  float eps = 0;                      ///< norm
  float probability_scale = 0;        ///< attention: s_p
  std::int32_t probability_zero = 0;  ///< attention, uniform probabilities
  probability_kind probability = probability_kind::as_uniform;
  std::uint8_t probability_bits = 0;
  std::uint8_t probability_zero_rule = 0;  ///< zero_rule of a logarithmic code
  std::uint8_t probability_depth = 0;
  std::uint8_t probability_relative = 0;  ///< 1: codes of p over the largest p of its query
  std::uint8_t reserved[3] = {};
  std::uint64_t data[4] = {};
};
static_assert(sizeof(instruction) == 112 && std::is_trivially_copyable_v<instruction>);

/// What role a quantized site plays.
enum class site_role : std::uint8_t {
  linear_input,  ///< input of one or more linear layers
  norm_output,   ///< the same, behind a norm
  model_input,   ///< the same, the input of the model
  query,         ///< operands of attention
  key,
  probabilities,
  value,
};

/// One quantized activation, as stored: its path lies at path_offset in the constants.
struct site_record {
  std::uint64_t path_offset = 0;
  std::uint32_t path_size = 0;
  std::int32_t bits = 0;
  site_role role = site_role::linear_input;
  std::uint8_t reserved[7] = {};
};
static_assert(sizeof(site_record) == 24);

/// The first bytes of a saved model.
struct model_header {
  static constexpr std::uint32_t expected_magic = 0x4E515152;  // "RQQN"
  static constexpr std::uint32_t current_version = 2;
  std::uint32_t magic = expected_magic;
  std::uint32_t version = current_version;
  std::uint64_t total_bytes = 0;
  std::uint64_t checksum = 0;
  std::uint32_t instructions = 0;
  std::uint32_t registers = 0;
  std::uint32_t sites = 0;
  std::uint32_t constants = 0;  ///< bytes of the constants
  std::int32_t input_cols = 0;
  std::int32_t output_cols = 0;
  std::int32_t output = 0;       ///< register of the result
  std::int32_t extra_rows = 0;   ///< most rows that any register holds beyond those of the input
  std::int32_t min_rows = 1;     ///< least input rows it can run
  std::int32_t max_rows = 0;     ///< most input rows it can run, 0 for any number
  std::int32_t output_rows = 0;  ///< rows of the result: n >= 0 is n more than the input, n < 0 exactly -n
  std::int32_t reserved = 0;
};
static_assert(sizeof(model_header) == 72);

}  // namespace repquant
