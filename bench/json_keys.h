// Settings from JSON that people write: what is not as it should be is named.
#ifndef SACCADE_BENCH_JSON_KEYS_H_
#define SACCADE_BENCH_JSON_KEYS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/status.h"

namespace saccade::bench {

/// Reads keys of a JSON object, which must outlive it. The first that is not
/// as it should be is kept as the status, with `where` and the key's name.
///
///   Keys speed(profile["speed"], "quick: speed");
///   speed.OnlyKnown({"cell_seconds"});
///   speed.Number("cell_seconds", &seconds, 1e-6, 3600);
///   if (!speed.status().ok()) return speed.status();
class Keys {
 public:
  /// kInvalid at once when `object` is none; it then reads as empty.
  Keys(const nlohmann::json& object, std::string where);

  const Status& status() const { return status_; }

  /// Leaves `value` when the key is missing.
  void Number(const char* key, double* value, double low, double high);
  void Count(const char* key, int64_t* value, int64_t low, int64_t high);
  void Text(const char* key, std::string* value);

  /// A text, a whole number, or an array of either, as text with commas; empty
  /// when missing.
  std::string List(const char* key);

  /// An array of texts.
  void Texts(const char* key, std::vector<std::string>* values);

  /// An array of whole numbers, at least one.
  void Counts(const char* key, std::vector<int64_t>* values, int64_t low,
              int64_t high);

  /// An object within; an empty one when missing.
  const nlohmann::json& Object(const char* key);

  /// The items of an array; none when missing.
  const nlohmann::json& Array(const char* key);

  /// Says so when there is a key that nobody reads: a slip in a profile must
  /// not pass for a setting.
  void OnlyKnown(const std::vector<std::string_view>& known);

 private:
  const nlohmann::json* Find(const char* key) const;
  void Wrong(const char* key, const std::string& should);

  const nlohmann::json& object_;
  const std::string where_;
  Status status_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_JSON_KEYS_H_
