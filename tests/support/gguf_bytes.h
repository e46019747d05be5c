// Builds the bytes of GGUF files by the format's specification, right and wrong ones, with no code of the product.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace greta::test {

/// Little-endian bytes of a number.
template <class T>
std::string raw(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

inline std::string raw_string(std::string_view text) { return raw<std::uint64_t>(text.size()) + std::string(text); }

template <class T>
std::string raw_values(const std::vector<T>& values) {
  std::string out;
  for (const T value : values) out += raw(value);
  return out;
}

/// What a test may want wrong is a public field; what it does not touch is right.
class GgufBytes {
 public:
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;                      // of the layout; the key is written by the test
  std::optional<std::uint64_t> n_tensors, n_values;  // claimed counts

  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> shape;  // ne0 first
    std::uint32_t type = 0;
    std::string data;
    std::optional<std::uint64_t> offset;      // claimed
    std::optional<std::uint32_t> dimensions;  // claimed
  };
  std::vector<std::pair<std::string, std::string>> values;  // key, type and value as bytes
  std::vector<Tensor> tensors;

  /// Adds a metadata entry, or replaces the one of that key.
  GgufBytes& value(const std::string& key, std::string type_and_value) {
    for (auto& entry : values) {
      if (entry.first == key) {
        entry.second = std::move(type_and_value);
        return *this;
      }
    }
    values.emplace_back(key, std::move(type_and_value));
    return *this;
  }
  GgufBytes& without(const std::string& key) {
    std::erase_if(values, [&](const auto& entry) { return entry.first == key; });
    return *this;
  }
  GgufBytes& u8(const std::string& key, std::uint8_t v) { return value(key, raw<std::uint32_t>(0) + raw(v)); }
  GgufBytes& i8(const std::string& key, std::int8_t v) { return value(key, raw<std::uint32_t>(1) + raw(v)); }
  GgufBytes& u16(const std::string& key, std::uint16_t v) { return value(key, raw<std::uint32_t>(2) + raw(v)); }
  GgufBytes& i16(const std::string& key, std::int16_t v) { return value(key, raw<std::uint32_t>(3) + raw(v)); }
  GgufBytes& u32(const std::string& key, std::uint32_t v) { return value(key, raw<std::uint32_t>(4) + raw(v)); }
  GgufBytes& i32(const std::string& key, std::int32_t v) { return value(key, raw<std::uint32_t>(5) + raw(v)); }
  GgufBytes& f32(const std::string& key, float v) { return value(key, raw<std::uint32_t>(6) + raw(v)); }
  GgufBytes& boolean(const std::string& key, std::uint8_t v) { return value(key, raw<std::uint32_t>(7) + raw(v)); }
  GgufBytes& string(const std::string& key, std::string_view v) { return value(key, raw<std::uint32_t>(8) + raw_string(v)); }
  GgufBytes& u64(const std::string& key, std::uint64_t v) { return value(key, raw<std::uint32_t>(10) + raw(v)); }
  GgufBytes& i64(const std::string& key, std::int64_t v) { return value(key, raw<std::uint32_t>(11) + raw(v)); }
  GgufBytes& f64(const std::string& key, double v) { return value(key, raw<std::uint32_t>(12) + raw(v)); }
  GgufBytes& array(const std::string& key, std::uint32_t element, std::uint64_t count, const std::string& elements) {
    return value(key, raw<std::uint32_t>(9) + raw(element) + raw(count) + elements);
  }
  GgufBytes& strings(const std::string& key, const std::vector<std::string>& v) {
    std::string elements;
    for (const auto& text : v) elements += raw_string(text);
    return array(key, 8, v.size(), elements);
  }
  GgufBytes& i32s(const std::string& key, const std::vector<std::int32_t>& v) { return array(key, 5, v.size(), raw_values(v)); }
  GgufBytes& f32s(const std::string& key, const std::vector<float>& v) { return array(key, 6, v.size(), raw_values(v)); }

  Tensor& tensor(const std::string& name, std::vector<std::uint64_t> shape, std::uint32_t type, std::string data) {
    Tensor entry;
    entry.name = name, entry.shape = std::move(shape), entry.type = type, entry.data = std::move(data);
    tensors.push_back(std::move(entry));
    return tensors.back();
  }
  Tensor& f32_tensor(const std::string& name, std::vector<std::uint64_t> shape, const std::vector<float>& data) {
    return tensor(name, std::move(shape), 0, raw_values(data));
  }
  Tensor& find(const std::string& name) {
    for (auto& entry : tensors) {
      if (entry.name == name) return entry;
    }
    std::abort();
  }
  GgufBytes& without_tensor(const std::string& name) {
    std::erase_if(tensors, [&](const Tensor& entry) { return entry.name == name; });
    return *this;
  }

  /// Everything before the tensor data, unpadded.
  std::string head() const {
    std::string out = magic + raw(version) + raw<std::uint64_t>(n_tensors.value_or(tensors.size())) +
                      raw<std::uint64_t>(n_values.value_or(values.size()));
    for (const auto& [key, bytes] : values) out += raw_string(key) + bytes;
    std::uint64_t offset = 0;
    for (const auto& entry : tensors) {
      out += raw_string(entry.name);
      out += raw<std::uint32_t>(entry.dimensions.value_or(static_cast<std::uint32_t>(entry.shape.size())));
      for (const auto extent : entry.shape) out += raw(extent);
      out += raw(entry.type) + raw<std::uint64_t>(entry.offset.value_or(offset));
      offset = padded(offset + entry.data.size());
    }
    return out;
  }

  std::string build() const {
    std::string out = head();
    if (tensors.empty()) return out;
    out.resize(padded(out.size()), '\0');
    const std::size_t start = out.size();
    for (const auto& entry : tensors) {
      out += entry.data;
      out.resize(start + padded(out.size() - start), '\0');
    }
    return out;
  }

 private:
  std::uint64_t padded(std::uint64_t size) const { return (size + alignment - 1) / alignment * alignment; }
};

/// Sizes of `small_llama`.
struct SmallLlama {
  std::uint32_t layers = 2, d = 8, heads = 2, kv_heads = 1, ff = 12, vocab = 5, context = 16;
};

/// A whole model of architecture llama in F32, with a SentencePiece vocabulary; tensor values count up from 0.5 by 2^-10.
inline GgufBytes small_llama(const SmallLlama& s = {}) {
  GgufBytes file;
  file.string("general.architecture", "llama").string("general.name", "small");
  file.u32("llama.block_count", s.layers).u32("llama.embedding_length", s.d).u32("llama.context_length", s.context);
  file.u32("llama.feed_forward_length", s.ff).u32("llama.attention.head_count", s.heads);
  file.u32("llama.attention.head_count_kv", s.kv_heads).f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.string("tokenizer.ggml.model", "llama");
  const std::vector<std::string> tokens{"<unk>", "<s>", "</s>", "\xe2\x96\x81", "a"};
  file.strings("tokenizer.ggml.tokens", tokens).f32s("tokenizer.ggml.scores", {0, 0, 0, -1, -2});
  file.i32s("tokenizer.ggml.token_type", {2, 3, 3, 1, 1});
  file.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);
  const auto add = [&file](const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    std::vector<float> data(rows * cols);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = 0.5f + static_cast<float>(i % 512) / 1024.0f;
    file.f32_tensor(name, rows == 1 ? std::vector<std::uint64_t>{cols} : std::vector<std::uint64_t>{cols, rows}, data);
  };
  const std::uint64_t kv = std::uint64_t{s.kv_heads} * (s.d / s.heads);
  add("token_embd.weight", s.vocab, s.d);
  for (std::uint32_t layer = 0; layer < s.layers; ++layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    add(blk + "attn_norm.weight", 1, s.d);
    add(blk + "attn_q.weight", s.d, s.d);
    add(blk + "attn_k.weight", kv, s.d);
    add(blk + "attn_v.weight", kv, s.d);
    add(blk + "attn_output.weight", s.d, s.d);
    add(blk + "ffn_norm.weight", 1, s.d);
    add(blk + "ffn_gate.weight", s.ff, s.d);
    add(blk + "ffn_up.weight", s.ff, s.d);
    add(blk + "ffn_down.weight", s.d, s.ff);
  }
  add("output_norm.weight", 1, s.d);
  add("output.weight", s.vocab, s.d);
  return file;
}

}  // namespace greta::test
