// SPDX-License-Identifier: MIT
/// What an edge build compiles: run.hpp alone, one C function per kind of work. symbols.cmake reads what the
/// object needs.
#include <repquant/run.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace rq = repquant;

extern "C" {

void device_encode(const float* x, std::size_t n, float scale, std::int32_t zero_point, std::uint8_t* codes) {
  rq::encode(rq::uniform{4}, rq::affine{scale, zero_point}, {x, n}, {codes, n});
}

void device_encode_log(const float* x, std::size_t n, float scale, std::uint8_t* codes) {
  rq::encode(rq::log_sqrt2{4}, rq::log_scale{scale}, {x, n}, {codes, n});
}

void device_encode_channels(const float* x, rq::index rows, rq::index cols, const rq::affine* params,
                            std::uint8_t* codes) {
  rq::encode(rq::uniform{8}, rq::per_col{}, {rows, cols}, {params, static_cast<std::size_t>(cols)}, x, cols,
             codes, cols);
}

void device_decode_groups(const std::uint8_t* codes, rq::index rows, rq::index cols, const rq::affine* params,
                          float* x) {
  const rq::per_group granularity{32};
  const auto groups = static_cast<std::size_t>(granularity.groups({rows, cols}));
  rq::decode(rq::uniform{4}, granularity, {rows, cols}, {params, groups}, codes, cols, x, cols);
}

void device_pack(const std::uint8_t* codes, std::size_t n, std::uint8_t* bytes) {
  rq::pack<4>({codes, n}, {bytes, rq::packed_size<4>(n)});
}

void device_unpack(const std::uint8_t* bytes, std::uint8_t* codes, std::size_t n) {
  rq::unpack<2>({bytes, rq::packed_size<2>(n)}, {codes, n});
}

void device_norm(const float* x, const float* gamma, const float* beta, float* y, std::size_t n) {
  rq::layer_norm_row({x, n}, {gamma, n}, {beta, n}, 1e-5F, {y, n});
}

void device_softmax(const float* x, float* y, std::size_t n) { rq::softmax_row({x, n}, {y, n}); }

void device_gelu(const float* x, float* y, std::size_t n) {
  rq::activate(rq::activation::gelu_erf, {x, n}, {y, n});
}

int device_linear(const rq::linear_codes* layer, std::byte* packed, const std::uint8_t* x, rq::index tokens,
                  std::byte* workspace, float* y) {
  rq::linear_codes l = *layer;
  const rq::failure f = rq::check(l, "linear");
  if (f) return static_cast<int>(f.code);
  const std::span<std::byte> memory{packed, rq::linear_packed_bytes(l)};
  rq::pack_linear(l, memory);
  l.packed = memory;
  rq::linear_rows(l, x, tokens, l.in, {workspace, rq::linear_workspace_size(l)}, y, l.out);
  return 0;
}

void device_attention(const rq::attention_head* head, const rq::attention_operands* x, std::byte* scratch) {
  const std::size_t bytes = rq::attention_scratch_size(head->queries, head->keys, head->head_dim);
  rq::attend(*head, *x, {scratch, bytes});
}

// A saved model, from bytes to logits. `memory` holds the packed weights and then the workspace.
int device_model(const std::byte* bytes, std::size_t size, std::byte* memory, std::size_t memory_size,
                 const float* x, rq::index rows, float* out, std::size_t out_size) {
  rq::model_view model;
  if (const rq::failure f = rq::model_view::open({bytes, size}, model)) return static_cast<int>(f.code);
  const std::span<std::byte> all{memory, memory_size};
  const std::size_t storage = rq::engine::storage_bytes(model);
  if (storage > memory_size) return -1;
  rq::engine engine;
  if (const rq::failure f = engine.prepare(model, all.first(storage))) return static_cast<int>(f.code);
  if (const rq::failure f = engine.check_rows(rows)) return static_cast<int>(f.code);
  if (engine.workspace_bytes(rows) > memory_size - storage) return -1;
  engine.run(x, rows, {out, out_size}, all.subspan(storage));
  return 0;
}
}
