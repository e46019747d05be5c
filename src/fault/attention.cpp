// Attention: scale, mask, length, heads, softmax, merging of partial results.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/half.h"
#include "fault/attention_parts.h"
#include "fault/catalogue.h"
#include "fault/kv_views.h"

namespace greta {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::array kScores{Stage::attn_scores};
constexpr std::array kProbs{Stage::attn_probs};
constexpr std::array kOut{Stage::attn_out};

/// Calls head(values of one head's keys, query head) for every row and head of a view [n_heads, keys], and stores what it
/// leaves.
template <class Head>
void for_heads(const WrongCall& call, const TensorView& view, const Head& head) {
  const auto n_heads = static_cast<std::size_t>(call.attention.n_heads);
  for (std::int64_t r = 0; r < view.n_rows; ++r) {
    std::vector<double> row = row_as_double(view, r);
    const std::size_t n = row.size() / n_heads;
    for (std::size_t h = 0; h < n_heads; ++h) head(r, static_cast<int>(h), std::span(row).subspan(h * n, n));
    store_row(view, r, row);
  }
}

// softmax-scale

constexpr std::array kFactorKeys{
    FaultKey{.name = "factor",
             .type = KeyType::real,
             .fallback = "missing",
             .doc = "of the scores: the scale left out, applied twice, or a number to multiply it by",
             .min = -1e30,
             .max = 1e30,
             .words = "missing twice"}};

void plant_scale(const FaultSpec& fault, WrongCall& call) {
  double& scale = call.attention.scale;
  if (fault.word("factor") == "missing") {
    scale = 1.0;
  } else if (fault.word("factor") == "twice") {
    scale *= scale;
  } else {
    scale *= fault.real("factor");
  }
}

// attention-length, mask-stride

void plant_length(const FaultSpec&, WrongCall& call) {
  call.after(
      [&call] { for_heads(call, call.out, [](std::int64_t, int, std::span<double> scores) { scores.back() = -kInfinity; }); });
}

constexpr std::array kMaskKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "keys by which the mask's stride is too short", .min = 1, .max = 1e6}};

/// The mask of a call is [rows, keys], keys = last position + 1, masked where key > position. Key j of row r is looked up at
/// r * (keys - delta) + j of it.
void plant_mask_stride(const FaultSpec& fault, WrongCall& call) {
  call.after([&fault, &call] {
    std::int64_t keys = 0;
    for (const RowId& row : call.whole.site.rows) keys = std::max<std::int64_t>(keys, row.position + 1);
    const std::int64_t stride = std::max<std::int64_t>(0, keys - fault.integer("delta"));
    for_heads(call, call.out, [&](std::int64_t r, int, std::span<double> scores) {
      for (std::size_t j = 0; j < scores.size(); ++j) {
        const std::int64_t flat = call.indices[static_cast<std::size_t>(r)] * stride + static_cast<std::int64_t>(j);
        if (flat % keys > call.whole.site.rows[static_cast<std::size_t>(flat / keys)].position) scores[j] = -kInfinity;
      }
    });
  });
}

// mask-off-by-one: the key at position + 1 takes part. Scores have no place for it; it shows in the probabilities.

constexpr std::array kAfterScores{Stage::attn_probs, Stage::attn_out};

std::optional<KeptKey> keep_query(const FaultSpec& fault, const FaultTarget& target, const OpSite& site, std::size_t r) {
  if (site.stage != Stage::q_rope && site.stage != Stage::attn_scores) return std::nullopt;
  if (!fault.matches_layer(site.layer, Stage::attn_probs, target.n_layers()) &&
      !fault.matches_layer(site.layer, Stage::attn_out, target.n_layers()))
    return std::nullopt;
  return KeptKey{site.stage, site.layer, site.rows[r].seq, site.rows[r].position};
}

std::vector<double> kept_values(const WrongCall& call, Stage stage, RowId id) {
  const KeptRow* row = call.kept({stage, call.site.layer, id.seq, id.position});
  if (row == nullptr) return {};
  std::vector<double> values(static_cast<std::size_t>(row->cols));
  widen_row(row->dtype, row->bytes.data(), row->cols, values.data());
  return values;
}

/// The share of probability that one more key with score `extra` takes from `scores`.
double share(std::span<const double> scores, double extra) {
  double top = extra;
  for (const double s : scores) top = std::max(top, s);
  double sum = std::exp(extra - top);
  const double own = sum;
  for (const double s : scores) sum += std::exp(s - top);
  return own / sum;
}

/// The share of key position + 1 for each query head of row r.
std::vector<double> shares_of_next(WrongCall& call, std::int64_t r) {
  const AttentionParams& p = call.attention;
  const RowId id = call.row_id(r);
  const std::vector<double> q = kept_values(call, Stage::q_rope, id), scores = kept_values(call, Stage::attn_scores, id);
  const std::vector<double> key = slot_as_double(*call.kv, KvPart::k, call.site.layer, {id.seq, id.position + 1});
  const std::size_t n = scores.size() / static_cast<std::size_t>(p.n_heads);
  std::vector<double> shares;
  for (int h = 0; h < p.n_heads; ++h) {
    double dot = 0;
    for (int d = 0; d < p.head_dim; ++d) dot += q[head_element(h, p, d)] * key[kv_element(h, p, d)];
    shares.push_back(share(std::span(scores).subspan(static_cast<std::size_t>(h) * n, n), capped(dot * p.scale, p)));
  }
  return shares;
}

void plant_mask(const FaultSpec&, WrongCall& call) {
  call.after([&call] {
    const AttentionParams& p = call.attention;
    if (call.op == OpKind::softmax) {
      std::vector<double> shares;
      for_heads(call, call.out, [&](std::int64_t r, int h, std::span<double> probs) {
        if (h == 0) shares = shares_of_next(call, r);
        for (double& probability : probs) probability *= 1 - shares[static_cast<std::size_t>(h)];
      });
      return;
    }
    for (std::int64_t r = 0; r < call.n_rows(); ++r) {
      std::vector<double> out = row_as_double(call.out, r);
      const std::vector<double> shares = shares_of_next(call, r);
      const std::vector<double> value =
          slot_as_double(*call.kv, KvPart::v, call.site.layer, {call.row_id(r).seq, call.row_id(r).position + 1});
      for (int h = 0; h < p.n_heads; ++h)
        for (int d = 0; d < p.head_dim; ++d)
          out[head_element(h, p, d)] += shares[static_cast<std::size_t>(h)] * value[kv_element(h, p, d)];
      store_row(call.out, r, out);
    }
  });
}

// window-off-by-one, softcap-missing

constexpr std::array kWindowed{Stage::attn_scores, Stage::attn_probs, Stage::attn_out};
constexpr std::array kWindowKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "keys that the window is too wide", .min = -1, .max = 1e6}};

void plant_window(const FaultSpec& fault, WrongCall& call) {
  int& window = call.attention.window;
  if (window > 0) window = static_cast<int>(std::max<std::int64_t>(1, window + fault.integer("delta")));
}

std::string lacks_window(const FaultSpec& fault, const FaultTarget& target) {
  for (std::int32_t l = 0; l < target.n_layers(); ++l)
    if (target.model.config.layer_attention(l).window > 0 &&
        (!fault.layer || l == (*fault.layer < 0 ? target.n_layers() - 1 : *fault.layer)))
      return "";
  return "the model has no sliding window there";
}

constexpr std::array kCapped{Stage::attn_scores, Stage::logits};

void plant_no_cap(const FaultSpec& fault, WrongCall& call) {
  call.attention.softcap = 0;
  if (call.op != OpKind::softcap) return;
  call.instead(fault, [&call] { run(call.kernel, {.op = std::nullopt, .site = call.site, .x = call.x, .out = call.out}); });
}

std::string lacks_cap(const FaultSpec& fault, const FaultTarget& target) {
  const ModelConfig& c = target.model.config;
  if (c.attention_softcap > 0 && fault.stage != Stage::logits) return "";
  if (c.final_softcap > 0 && fault.stage != Stage::attn_scores) return "";
  return "the model does not cap them";
}

// gqa-head-map: query heads are put where the kernel takes them for heads of the wrong KV head, and their results put back.

constexpr std::array kHeadStages{Stage::attn_scores, Stage::attn_out};
constexpr std::array kMapKeys{FaultKey{.name = "map",
                                       .type = KeyType::word,
                                       .fallback = "modulo",
                                       .doc = "query head h reads KV head h mod n_kv_heads, or the one after its own",
                                       .words = "modulo next"}};

/// The query head whose place head h takes.
int place_of(const FaultSpec& fault, const AttentionParams& p, int h) {
  const int group = p.n_heads / p.n_kv_heads;
  if (fault.word("map") == "modulo") return h % p.n_kv_heads * group + h / p.n_kv_heads;
  return (h + group) % p.n_heads;
}

/// Head h of `from` goes to place(h) of `to`, or comes from there.
void move_heads(const FaultSpec& fault, const AttentionParams& p, const TensorView& from, const TensorView& to, bool back) {
  for (std::int64_t r = 0; r < from.n_rows; ++r) {
    const auto size = static_cast<std::size_t>(row_bytes(from.dtype, from.cols(r) / p.n_heads));
    for (int h = 0; h < p.n_heads; ++h) {
      const auto own = static_cast<std::size_t>(h) * size, other = static_cast<std::size_t>(place_of(fault, p, h)) * size;
      std::memcpy(to.row(r) + (back ? own : other), from.row(r) + (back ? other : own), size);
    }
  }
}

void plant_head_map(const FaultSpec& fault, WrongCall& call) {
  call.instead(fault, [&fault, &call] {
    OpCall moved = call;
    moved.x = copy_of(call.x, call.arena);
    moved.out = copy_of(call.out, call.arena);
    move_heads(fault, call.attention, call.x, moved.x, false);
    run(call.kernel, moved);
    move_heads(fault, call.attention, moved.out, call.out, true);
  });
}

std::string lacks_groups(const FaultSpec& fault, const FaultTarget& target) {
  const ModelConfig& c = target.model.config;
  if (c.n_kv_heads == 1) return "the model has one KV head";
  if (fault.word("map") == "modulo" && c.n_heads == c.n_kv_heads) return "every query head has its own KV head";
  return "";
}

// sequence-crosstalk

void plant_crosstalk(const FaultSpec&, WrongCall& call) {
  redirect_kv(call, {}, [batch = call.target.batch](SlotPlace place) {
    place.token.seq = (place.token.seq + 1) % batch;
    return std::optional(place);
  });
}

std::string lacks_batch(const FaultSpec&, const FaultTarget& target) {
  return target.batch > 1 ? "" : "the arm computes one sequence";
}

// softmax-no-max, nan-padding, merge-empty-chunk

constexpr std::array kTypeKeys{FaultKey{.name = "type",
                                        .type = KeyType::word,
                                        .fallback = "f16",
                                        .doc = "of the exponentials, which overflow above exp(11.09) or exp(88.7)",
                                        .words = "f16 f32"}};

void plant_no_max(const FaultSpec& fault, WrongCall& call) {
  call.instead(fault, [&fault, &call] {
    const bool half = fault.word("type") == "f16";
    run(call.kernel, {.op = std::nullopt, .site = call.site, .x = call.x, .out = call.out});
    for_heads(call, call.out, [&](std::int64_t, int, std::span<double> scores) {
      double sum = 0;
      for (double& score : scores) {
        const auto e = static_cast<float>(std::exp(score));
        score = static_cast<double>(half ? f16_to_f32(f32_to_f16(e)) : e);
        sum += score;
      }
      for (double& score : scores) score /= sum;
    });
  });
}

constexpr std::array kPaddingKeys{
    FaultKey{.name = "pad", .fallback = "64", .doc = "the number of keys is padded to a multiple of it", .min = 1, .max = 1e6},
    FaultKey{.name = "block", .fallback = "16", .doc = "keys of which a maximum is taken at once", .min = 1, .max = 1e6}};

void plant_nan_padding(const FaultSpec& fault, WrongCall& call) {
  call.after([&fault, &call] {
    const auto pad = static_cast<std::size_t>(fault.integer("pad")), block = static_cast<std::size_t>(fault.integer("block"));
    for_heads(call, call.out, [&](std::int64_t, int, std::span<double> probs) {
      const std::size_t padded = (probs.size() + pad - 1) / pad * pad;
      const bool empty_block = (probs.size() + block - 1) / block < (padded + block - 1) / block;
      if (empty_block) std::fill(probs.begin(), probs.end(), kInfinity - kInfinity);
    });
  });
}

constexpr std::array kSplitKeys{FaultKey{
    .name = "splits", .fallback = "16", .doc = "the keys are divided among so many partial softmaxes", .min = 2, .max = 1e6}};

std::optional<KeptKey> keep_scores(const FaultSpec& fault, const FaultTarget& target, const OpSite& site, std::size_t r) {
  if (site.stage != Stage::attn_scores || !fault.matches_layer(site.layer, Stage::attn_out, target.n_layers()))
    return std::nullopt;
  return KeptKey{site.stage, site.layer, site.rows[r].seq, site.rows[r].position};
}

/// An empty partial softmax has a log-sum-exp of -infinity. Taken for 0, each weighs as a key of score 0 and value 0.
void plant_merge(const FaultSpec& fault, WrongCall& call) {
  call.after([&fault, &call] {
    const AttentionParams& p = call.attention;
    const std::int64_t splits = fault.integer("splits");
    for (std::int64_t r = 0; r < call.n_rows(); ++r) {
      const std::vector<double> scores = kept_values(call, Stage::attn_scores, call.row_id(r));
      const auto n = static_cast<std::int64_t>(scores.size()) / p.n_heads;
      const std::int64_t size = (n + splits - 1) / splits, empty = splits - (n + size - 1) / size;
      if (empty == 0) continue;
      std::vector<double> out = row_as_double(call.out, r);
      for (int h = 0; h < p.n_heads; ++h) {
        const auto own =
            std::span(scores).subspan(static_cast<std::size_t>(h) * static_cast<std::size_t>(n), static_cast<std::size_t>(n));
        const double lost = share(own, std::log(static_cast<double>(empty)));
        for (int d = 0; d < p.head_dim; ++d) out[head_element(h, p, d)] *= 1 - lost;
      }
      store_row(call.out, r, out);
    }
  });
}

const auto kRows = std::to_array<FaultInfo>({
    {.name = "softmax-scale",
     .family = "attention",
     .doc = "the scores are scaled otherwise than by the model's scale",
     .found_at = "attn_scores",
     .stands_for = "softmax scale missing or applied twice",
     .stages = kScores,
     .keys = kFactorKeys,
     .plant = plant_scale},
    {.name = "attention-length",
     .family = "attention",
     .doc = "a row attends to keys 0..position-1 and not to its own",
     .found_at = "attn_scores",
     .stands_for = "decode attends to pos keys, not pos+1 (gretacore B3.19)",
     .stages = kScores,
     .shows = ShowsIn::kernel,
     .plant = plant_length},
    {.name = "mask-stride",
     .family = "attention",
     .doc = "the mask's stride is shorter than its row: a row looks up part of an earlier row's mask",
     .found_at = "attn_scores",
     .idle = "at the first row of a call, which decode's only one is",
     .needs = "a call of two rows or more",
     .stands_for = "mask stride shorter than the row: reads past it (lucebox#128)",
     .stages = kScores,
     .keys = kMaskKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_mask_stride},
    {.name = "gqa-head-map",
     .family = "attention",
     .doc = "query heads read the wrong KV head",
     .found_at = "attn_scores or attn_out (the first of those chosen)",
     .idle = "of attn_out at position 0, where map and values are such that heads agree",
     .needs = "two KV heads or more (map=modulo: and fewer than query heads)",
     .stands_for = "GQA: query head mapped to the wrong KV head",
     .stages = kHeadStages,
     .keys = kMapKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_head_map,
     .lacks = lacks_groups},
    {.name = "sequence-crosstalk",
     .family = "attention",
     .doc = "a row reads the keys or values of the next sequence of the batch",
     .found_at = "attn_scores or attn_out (the first of those chosen)",
     .idle = "at position 0 where all sequences begin with the same token",
     .needs = "an arm that computes two sequences or more at once (batch=N)",
     .stands_for = "other prompts' tokens appear (TensorRT-LLM#8813)",
     .stages = kHeadStages,
     .plant = plant_crosstalk,
     .lacks = lacks_batch},
    {.name = "softmax-no-max",
     .family = "attention",
     .doc = "softmax takes exponentials without subtracting the maximum",
     .found_at = "attn_probs",
     .idle = "at position 0, whose only key has probability 1, unless its exponential overflows",
     .stands_for = "exponentials that overflow (llama.cpp#7805)",
     .stages = kProbs,
     .keys = kTypeKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_no_max},
    {.name = "nan-padding",
     .family = "attention",
     .doc = "a block of keys that is padding alone has the maximum -infinity, and -infinity minus itself is NaN",
     .found_at = "attn_probs",
     .idle = "at positions whose keys reach into the last block of the padded length",
     .stands_for = "-INF - x = NaN on padded KV (llama.cpp#6438)",
     .stages = kProbs,
     .keys = kPaddingKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_nan_padding},
    {.name = "mask-off-by-one",
     .family = "attention",
     .doc = "a row attends to the key after its own too: the next token's in prefill, whatever the slot holds in decode",
     .found_at = "attn_probs (the scores have no place for the key)",
     .idle = "where the key's share of the probability is lost in rounding, as that of an empty slot beside large scores",
     .stands_for = "causal mask off by one",
     .stages = kAfterScores,
     .shows = ShowsIn::kernel,
     .plant = plant_mask,
     .keep = keep_query},
    {.name = "window-off-by-one",
     .family = "attention",
     .doc = "a sliding window is a key too wide, or DELTA",
     .found_at = "attn_scores",
     .idle = "at positions where both windows reach back to position 0",
     .needs = "a layer with a sliding window (Mistral, gemma2, gemma3)",
     .stands_for = "sliding window off by one (transformers#26792)",
     .stages = kWindowed,
     .keys = kWindowKeys,
     .plant = plant_window,
     .lacks = lacks_window},
    {.name = "softcap-missing",
     .family = "attention",
     .doc = "scores or logits are not soft-capped",
     .found_at = "attn_scores or logits (the first of those chosen)",
     .needs = "a model that caps them (gemma2)",
     .stands_for = "logit soft-capping left out",
     .stages = kCapped,
     .plant = plant_no_cap,
     .lacks = lacks_cap},
    {.name = "merge-empty-chunk",
     .family = "attention",
     .doc = "partial softmaxes are merged with the log-sum-exp of an empty one taken for 0 instead of -infinity",
     .found_at = "attn_out",
     .idle = "at positions where no partial softmax is empty, and where its weight is lost in rounding beside large scores",
     .stands_for =
         "empty chunk corrupts the merge of partial softmaxes (sglang#22688); log(0) convention differs between two kernels "
         "that are merged (vllm#15492)",
     .stages = kOut,
     .keys = kSplitKeys,
     .shows = ShowsIn::kernel,
     .plant = plant_merge,
     .keep = keep_scores},
});

}  // namespace

std::span<const FaultInfo> attention_faults() { return kRows; }

}  // namespace greta
