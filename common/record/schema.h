// The schema of a run's records: one table of kinds and fields, which both
// checks records and writes their documentation (reports/SCHEMA.md).
#ifndef SACCADE_COMMON_RECORD_SCHEMA_H_
#define SACCADE_COMMON_RECORD_SCHEMA_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "saccade/status.h"

namespace saccade::record {

/// JSON with its fields in the order they were written.
using Json = nlohmann::ordered_json;

/// Raised when a reader of the old schema would misread the new one. New
/// kinds and optional fields do not raise it: readers skip what they do not
/// know.
constexpr int64_t kSchemaVersion = 2;

/// The oldest version that is still read: brought up to this one by Upgrade.
constexpr int64_t kOldestSchema = 1;

constexpr int64_t kMaxLineBytes = int64_t{1} << 20;
constexpr int64_t kMaxFileBytes = int64_t{1} << 26;
constexpr int64_t kMaxTextBytes = int64_t{1} << 16;
constexpr int64_t kMaxArrayItems = 100'000;
constexpr int64_t kMaxCount = int64_t{1} << 53;  // exact as a double

enum class Type : uint8_t {
  kText,     // string, UTF-8
  kCount,    // integer, 0 .. 2^53
  kNumber,   // finite
  kFlag,     // true, false
  kNumbers,  // array of numbers; null where one was not finite
  kTexts,    // array of strings
};

struct Field {
  std::string_view name;
  Type type;
  std::string_view doc;           // one line, with the unit
  double low = 0, high = 0;       // of numbers; equal: no limit
  std::string_view choices = {};  // of texts: "a|b|c"; empty: any
};

/// A kind of record. Names are separated by spaces. A record must carry every
/// field of `identity`, and every field of `result` too when its status is ok.
struct Kind {
  std::string_view name;
  std::string_view doc;
  std::string_view identity;
  std::string_view result;
  std::string_view optional;
};

std::span<const Field> Fields();
std::span<const Kind> Kinds();
const Field* FindField(std::string_view name);
const Kind* FindKind(std::string_view name);

/// Strict refuses fields that the table does not know, as a writer must;
/// lenient lets them be, so that records of later versions can be read.
enum class Strictness : uint8_t { kStrict, kLenient };

/// Whether `record` is an object of a known kind with all its fields, of the
/// right types and in range. A null field counts as missing. kInvalid with a
/// sentence that names the field.
Status Validate(const Json& record, Strictness strictness);

/// Adds to a record of schema `from` what its version left unsaid: 1 timed
/// with warm caches alone. What is not of an object or says it already stays.
void Upgrade(int64_t from, Json& record);

/// The known fields of an object, in the order of the table, so that a line
/// begins with what it is.
Json InTableOrder(const Json& record);

/// Equal for two records of the same measurement, whatever came of it: all
/// fields but times, sizes, rates, verdicts and how to repeat it. What follows
/// from a trained model's bits counts as part of the name: it repeats itself.
std::string IdentityOf(const Json& record);

/// The tables of reports/SCHEMA.md.
std::string SchemaMarkdown();

/// The same for programs, of one line: JSON Schema, draft 2020-12. It allows
/// what a writer may write (Strictness::kStrict), but for two things that JSON
/// Schema cannot say: texts are limited in bytes, and a count is written
/// without a point.
Json SchemaJson();

}  // namespace saccade::record

#endif  // SACCADE_COMMON_RECORD_SCHEMA_H_
