// What attention is asked for: shapes, storage, mask, positions, settings.
#ifndef SACCADE_PROBLEM_H_
#define SACCADE_PROBLEM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "saccade/export.h"
#include "saccade/tensor.h"

namespace saccade {

/// Which keys a query may see before the variant narrows it further.
/// kCausal aligns at the bottom right: key j is visible to query i when
/// j <= i + kv_len - q_len. kCausalTopLeft: when j <= i.
enum class Mask : uint8_t { kNone, kCausal, kCausalTopLeft };
SACCADE_API const char* NameOf(Mask);

/// A mask that the caller gives with each pass, Inputs::attn_mask, on top of
/// Mask, window and what a variant hides by itself. kBoolean: where true, a
/// query attends. kAdditive: added to the scores, f32 or the problem's dtype.
enum class AttnMask : uint8_t { kNone, kBoolean, kAdditive };
SACCADE_API const char* NameOf(AttnMask);

/// Named settings, of a variant or a position scheme: numbers or words.
class SACCADE_API Knobs {
 public:
  struct Entry {
    std::string name;
    double number = 0;
    std::string text;  // the word, or the number as it was written
  };

  Knobs() = default;
  Knobs(std::initializer_list<std::pair<std::string_view, double>> numbers);

  /// Adds a setting, or replaces the one of that name.
  void Set(std::string_view name, double number);
  void SetText(std::string_view name, std::string_view text);
  const Entry* Find(std::string_view name) const;
  /// The value, which must be there: plans see resolved knobs, all of them.
  double Number(std::string_view name) const;
  int64_t Int(std::string_view name) const;
  const std::string& Text(std::string_view name) const;
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  void Put(Entry entry);

  std::vector<Entry> entries_;
};

/// A knob as declared: its default, range and meaning.
struct Knob {
  std::string_view name;
  std::string_view doc;  // one line, with the unit
  double initial = 0, low = 0, high = 0;
  bool integer = true;
  /// Not empty: the knob is a word. "a|b|c" lists the choices, the first is
  /// the default; "*" takes any text, by default none.
  std::string_view choices = {};
};

/// Blocks of keys seen by each block of queries, in rows as in CSR. Row r holds
/// columns[offsets[r]] .. columns[offsets[r + 1] - 1], ascending.
struct BlockMask {
  int64_t block = 64;  // tokens
  std::vector<int64_t> offsets;
  std::vector<int64_t> columns;
};

/// How positions enter, by name: "rope", {{"base", 10000}}. `saccade list
/// --positions` shows the schemes, their formulas and knobs.
struct Position {
  std::string name;
  Knobs knobs = {};
};

constexpr int64_t kNoDistance = int64_t{1} << 60;  // no limit

/// Everything a plan may specialise on.
struct Problem {
  int64_t batch = 1;
  int64_t q_heads = 1, kv_heads = 1;  // q_heads is a multiple of kv_heads
  int64_t q_len = 0, kv_len = 0;      // tokens; kv_len: capacity for Extend
  int64_t qk_dim = 0, v_dim = 0;      // width of a head
  DType dtype = DType::kF32;
  Mask mask = Mask::kNone;
  int64_t window = 0;  // keys, itself included; 0: no limit. Cuts any mask
  /// Likewise, on one side: least_distance <= i - j <= most_distance. Where a
  /// part of attention is asked for, to be merged with others by its lse.
  int64_t least_distance = -kNoDistance, most_distance = kNoDistance;
  float scale = 0;  // of scores; 0: the variant's own default
  /// c: scores become c tanh(score / c) after the scale, before biases and
  /// masks (Gemma Team 2024, arXiv:2408.00118, section 2). 0: none.
  float softcap = 0;
  AttnMask attn_mask = AttnMask::kNone;
  /// Empty: none. Several act together, at most one of each kind: on the
  /// embeddings, turning q and k, scaling q, added to the scores.
  std::vector<Position> positions = {};
  Knobs knobs = {};
  std::shared_ptr<const BlockMask> blocks = nullptr;  // the caller's own
};

}  // namespace saccade

#endif  // SACCADE_PROBLEM_H_
