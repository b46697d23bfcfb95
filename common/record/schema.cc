#include "record/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <vector>

namespace saccade::record {
namespace {

using enum Type;

constexpr double kMost = 1e300;

// Grouped by what they say: the line, the cell, speed, memory, checks,
// learning, the header.
constexpr Field kFields[] = {
    {"kind", kText, "What this line is"},
    {"status", kText, "What became of it; ok when missing", 0, 0,
     "ok|fail|skipped|unsupported|interrupted"},
    {"reason", kText, "Why the status is not ok, or a remark: one sentence"},
    {"repeat", kText, "Command that repeats this measurement alone"},

    {"variant", kText, "The full spec string, knobs and position included"},
    {"setting", kText,
     "The shape of heads that compared cells have in common, in a few words; "
     "when missing, made from the shape fields"},
    {"pass", kText, "Which pass ran", 0, 0, "forward|backward|decode"},
    {"dtype", kText, "Storage type: f32, bf16"},
    {"mask", kText, "none, causal, causal_top_left"},
    {"batch", kCount, "B"},
    {"q_heads", kCount, "Query heads"},
    {"kv_heads", kCount, "Key and value heads"},
    {"q_len", kCount, "Queries, tokens; 1 when decoding"},
    {"kv_len", kCount, "Keys, tokens; the context when decoding"},
    {"qk_dim", kCount, "Width of a query or key"},
    {"v_dim", kCount, "Width of a value"},
    {"threads", kCount, "Threads that were allowed"},
    {"target", kText, "SIMD target: SSE4, AVX2, AVX3, AVX3_BF16"},
    {"cache", kText,
     "What caches held before a sample: warm, what the run before left; cold, "
     "nothing of the cell",
     0, 0, "warm|cold"},

    {"ns", kNumbers, "Raw samples, nanoseconds a call", 0, kMost},
    {"pace", kNumbers,
     "By sample, how slow the machine was then: 1 as in the middle of the "
     "rounds, 1.2 for a fifth slower. Times are of ns / pace. Missing: the "
     "pace held",
     0, kMost},
    {"median_ns", kNumber, "Median, nanoseconds a call (a token, decoding)", 0,
     kMost},
    {"low_ns", kNumber, "Lower end of the median's 95 % interval", 0, kMost},
    {"high_ns", kNumber, "Upper end of the median's 95 % interval", 0, kMost},
    {"flops", kNumber,
     "Visible work of a call, or of a whole training, by the equations", 0,
     kMost},
    {"bytes", kNumber, "Bytes a call must move at least", 0, kMost},
    {"peak_share", kNumber, "Share of the arithmetic peak of this run", 0,
     kMost},
    {"bandwidth_share", kNumber, "Share of the stream bandwidth of this run", 0,
     kMost},
    {"peer", kText, "Name of the outside implementation"},
    {"version", kText, "Version of it, or of the suite"},
    {"peak", kText, "What was measured: fma, bf16, gemm, stream"},
    {"gflops", kNumber, "10^9 floating-point operations a second", 0, kMost},
    {"gbps", kNumber, "10^9 bytes a second", 0, kMost},

    {"scratch_bytes", kCount, "Scratch of the pass, by the plan"},
    {"saved_bytes", kCount, "Kept from forward for backward, by the plan"},
    {"state_bytes", kCount, "Carried from token to token, by the plan"},
    {"io_bytes", kCount, "Inputs and outputs of the pass"},
    {"rss_growth_bytes", kCount, "Growth of a fresh process's peak memory"},

    {"cases", kCount, "Cases compared with the oracle"},
    {"failures", kCount, "Cases beyond the budget"},
    {"kappa", kNumber, "The variant's error budget, in units of u * size", 0,
     kMost},
    {"worst", kNumber, "Largest error seen, in the same units", 0, kMost},

    {"task", kText, "What was learned: text, or a probe's name"},
    {"seed", kCount, "Seed of data order and start"},
    {"model", kText, "The model in a few words: d64 N2 h8"},
    {"match", kText,
     "What a model's training has in common with the others': the parameters "
     "and steps when missing, or the parameters and FLOPs",
     0, 0, "parameters|flops"},
    {"params", kCount, "Parameters of the model"},
    {"steps", kCount, "Optimiser steps"},
    {"tokens", kCount, "Tokens learned from, or scored"},
    {"seconds", kNumber, "Wall time", 0, kMost},
    {"loss", kNumbers, "Training loss, nats a token, at equal intervals"},
    {"final_loss", kNumber, "Training loss at the end, nats a token"},
    {"train_len", kCount, "L, the training length, tokens"},
    {"eval_len", kCount, "The length read at, tokens"},
    {"protocol", kText,
     "nonoverlap, tail, same-target, sliding, position (extrapolation.md)"},
    {"switch", kText,
     "Change at test time: plain, window, logn, pi, ntk, yarn, "
     "rerope"},
    {"bucket", kCount,
     "Protocol position: first position of the bucket; a probe: see bucket_is"},
    {"bucket_is", kText, "By what answers of a probe are told apart"},
    {"bits_per_byte", kNumber, "Bits a byte of text", 0, kMost},
    {"low", kNumber, "Lower end of the 95 % interval"},
    {"high", kNumber, "Upper end of the 95 % interval"},
    {"anchor", kText, "Name of a compressor or n-gram model"},
    {"probe", kText, "Name of the probe"},
    {"accuracy", kNumber, "Share answered rightly", 0, 1},
    {"chance", kNumber, "Accuracy of guessing: of the best constant answer", 0,
     1},
    {"successes", kCount, "Right answers"},
    {"trials", kCount, "Answers asked for"},
    {"predicted_low", kNumber, "Least accuracy that theory allows for", 0, 1},
    {"predicted_high", kNumber, "Greatest accuracy that theory allows for", 0,
     1},
    {"metric", kText, "Of accuracy: token (when missing) or answer"},
    {"lens", kText, "Name of the lens"},
    {"value", kNumber, "What the lens read; how much noise, as its reason has"},
    {"noise", kText,
     "What disturbs: steal, load, siblings, cpu_pressure, memory_pressure, "
     "io_pressure, throttling, frequency_limit, governor, quota, swap, cores, "
     "drift, peak_drift, build"},
    {"subject", kText,
     "What was looked at: attention on random inputs, or a model", 0, 0,
     "inputs|fresh|trained"},
    {"picture", kText,
     "Greys of q_len rows and columns, a character each: 0-9, A-Z, a-z, -, _; "
     "0 is nothing, others the square root of the share of the greatest"},
    {"curve", kNumbers, "By distance: 0, 1, 2 ... tokens"},

    {"number", kCount, "Of the assertion, in its document"},
    {"claim", kText, "The assertion, one sentence"},
    {"expected", kText, "What theory or the literature says"},
    {"measured", kText, "What this run found, with its unit"},
    {"verdict", kText, "Whether they agree", 0, 0, "pass|fail|not run"},

    {"title", kText, "The variant, or what was learned, in a sentence"},
    {"source", kText, "Author, year, equation"},
    {"family", kText, "Variants of a family are drawn alike"},
    {"order", kCount, "Place in tables and legends"},
    {"baseline", kFlag, "Speed-ups are told against this variant"},
    {"traits", kTexts, "What it can do: causal, backward, extend, ..."},

    {"schema", kCount, "Version of this schema"},
    {"machine", kText, "The machine in a few words"},
    {"cpu", kText, "Model name"},
    {"cores", kCount, "Processors usable by this process"},
    {"memory_bytes", kCount, "Main memory"},
    {"caches", kTexts, "L1d, L2, L3 with sizes"},
    {"system", kText, "Operating system and kernel"},
    {"targets", kTexts, "SIMD targets the processor supports, best first"},
    {"compiler", kText, "Name and version"},
    {"flags", kText, "Flags the kernels were compiled with"},
    {"libraries", kTexts, "Name and version of each"},
    {"commit", kText, "Of the suite's source"},
    {"command", kText, "Command line that made the run"},
    {"profile", kText, "quick, standard, full"},
    {"started", kText, "UTC, ISO 8601"},
    {"corpus", kText, "The text learned from, in a few words"},
    {"note", kText, "Shown on the first page"},
    {"build", kText, "Digest of the program's file; a resumed run's is equal"},
    {"shard", kText, "Which of how many parts of a comparison: 1/2"},
    {"pair", kText,
     "Runs with the same were timed in turn: sample i of a cell of one was "
     "taken beside sample i of the other"},
    {"options", kText,
     "Digest of the settings and the text; a resumed run's is equal"},
};

// Shape fields, in every kind that times or weighs one cell.
#define SACCADE_CELL                                                     \
  "setting dtype mask batch q_heads kv_heads q_len kv_len qk_dim v_dim " \
  "threads "                                                             \
  "target"

constexpr Kind kKinds[] = {
    {"run", "The header: first line of the file, once",
     "schema cpu threads compiler commit command started", "",
     "machine cores memory_bytes caches system targets target flags libraries "
     "version profile corpus note build options shard pair"},
    {"variant", "A variant that this run compares, before its measurements",
     "variant", "title family order", "source baseline traits kappa"},
    {"noise", "Something that disturbs timing: load, steal time, a debug build",
     "reason", "", "noise value seconds"},
    {"peak", "What this machine can do, measured in this run", "peak threads",
     "", "gflops gbps target dtype ns median_ns"},
    {"verify", "A variant held against its float64 oracle",
     "variant pass target", "cases failures kappa worst",
     "dtype mask seconds repeat"},
    {"speed", "The time of a pass", "variant pass q_len kv_len cache",
     "median_ns",
     SACCADE_CELL
     " ns pace low_ns high_ns flops bytes peak_share bandwidth_share repeat"},
    {"peer", "The time of somebody else's implementation",
     "peer pass q_len kv_len cache", "median_ns",
     SACCADE_CELL
     " version variant ns pace low_ns high_ns flops bytes peak_share "
     "bandwidth_share kappa worst repeat"},
    {"memory", "The memory of a pass", "variant pass q_len kv_len",
     "scratch_bytes saved_bytes state_bytes",
     SACCADE_CELL " io_bytes rss_growth_bytes repeat"},
    {"train", "A model trained", "variant task seed", "train_len final_loss",
     "match model params steps tokens flops seconds gflops loss repeat threads "
     "title source expected bucket_is"},
    {"extrapolation", "Text read at some length by a trained model",
     "variant protocol switch seed train_len eval_len", "bits_per_byte",
     "match low high tokens bucket seconds repeat"},
    {"anchor", "A known compressor on the same test text", "anchor",
     "bits_per_byte", ""},
    {"probe", "A probe answered at some length by a trained model",
     "variant probe switch seed train_len eval_len", "accuracy",
     "low high chance successes trials bucket metric predicted_low "
     "predicted_high expected seconds repeat"},
    {"lens", "A look inside a variant", "variant lens", "value",
     "subject title expected picture curve low high q_len kv_len seed seconds"},
    {"claim", "An assertion and what this run says to it",
     "claim expected verdict", "", "number measured variant"},
    {"end", "The run came to its end: ok, or interrupted with the reason", "",
     "", "seconds"},
};
#undef SACCADE_CELL

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool Contains(std::string_view list, char separator, std::string_view item) {
  const auto parts = Split(list, separator);
  return std::find(parts.begin(), parts.end(), item) != parts.end();
}

bool Known(const Kind& kind, std::string_view field) {
  return field == "kind" || field == "status" || field == "reason" ||
         Contains(kind.identity, ' ', field) ||
         Contains(kind.result, ' ', field) ||
         Contains(kind.optional, ' ', field);
}

std::string_view Describe(Type type) {
  switch (type) {
    case kText:
      return "a text";
    case kCount:
      return "an integer from 0 to 2^53";
    case kNumber:
      return "a number";
    case kFlag:
      return "true or false";
    case kNumbers:
      return "an array of numbers";
    case kTexts:
      return "an array of texts";
  }
  return "";
}

// A name from outside, fit for a message.
std::string Quote(std::string_view name) {
  std::string quoted(name.substr(0, 40));
  for (char& c : quoted) {
    if (c < ' ' || c > '~') c = '?';
  }
  return '"' + quoted + '"';
}

bool IsText(const Json& value) {
  return value.is_string() &&
         value.get_ref<const std::string&>().size() <= kMaxTextBytes;
}

bool IsCount(const Json& value) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned()) {
    return value.get<uint64_t>() <= static_cast<uint64_t>(kMaxCount);
  }
  const int64_t count = value.get<int64_t>();
  return count >= 0 && count <= kMaxCount;
}

bool InRange(const Field& field, const Json& value) {
  if (!value.is_number()) return false;
  const double number = value.get<double>();
  if (!std::isfinite(number)) return false;
  return field.low == field.high ||
         (number >= field.low && number <= field.high);
}

template <class Check>
bool IsArray(const Json& value, const Check& check) {
  return value.is_array() && value.size() <= kMaxArrayItems &&
         std::all_of(value.begin(), value.end(), check);
}

bool Fits(const Field& field, const Json& value) {
  switch (field.type) {
    case kText:
      return IsText(value);
    case kCount:
      return IsCount(value);
    case kNumber:
      return InRange(field, value);
    case kFlag:
      return value.is_boolean();
    case kNumbers:
      return IsArray(value, [&](const Json& item) {
        return item.is_null() || InRange(field, item);
      });
    case kTexts:
      return IsArray(value, IsText);
  }
  return false;
}

Status CheckField(const Field& field, const Json& value) {
  if (!Fits(field, value)) {
    return Invalid(fmt::format(
        "field \"{}\" must be {}{}", field.name, Describe(field.type),
        field.low == field.high
            ? ""
            : fmt::format(" within {} and {}", field.low, field.high)));
  }
  if (!field.choices.empty() &&
      !Contains(field.choices, '|', value.get_ref<const std::string&>())) {
    return Invalid(fmt::format("field \"{}\" must be one of {}", field.name,
                               field.choices));
  }
  return {};
}

Status CheckPresent(const Json& record, std::string_view names) {
  for (const std::string_view name : Split(names, ' ')) {
    const auto it = record.find(std::string(name));
    if (it == record.end() || it->is_null()) {
      return Invalid(fmt::format("field \"{}\" is missing", name));
    }
  }
  return {};
}

}  // namespace

std::span<const Field> Fields() { return kFields; }
std::span<const Kind> Kinds() { return kKinds; }

const Field* FindField(std::string_view name) {
  const auto* it =
      std::find_if(std::begin(kFields), std::end(kFields),
                   [&](const Field& field) { return field.name == name; });
  return it == std::end(kFields) ? nullptr : it;
}

const Kind* FindKind(std::string_view name) {
  const auto* it =
      std::find_if(std::begin(kKinds), std::end(kKinds),
                   [&](const Kind& kind) { return kind.name == name; });
  return it == std::end(kKinds) ? nullptr : it;
}

std::string IdentityOf(const Json& record) {
  // What came of a measurement, and how to have it again.
  static constexpr std::string_view kOutcome =
      "status reason repeat ns pace median_ns low_ns high_ns flops bytes "
      "peak_share "
      "bandwidth_share gflops gbps version kappa worst cases failures "
      "scratch_bytes saved_bytes state_bytes io_bytes rss_growth_bytes seconds";
  static const std::set<std::string_view> outcome = [] {
    const auto names = Split(kOutcome, ' ');
    return std::set<std::string_view>(names.begin(), names.end());
  }();
  Json named = InTableOrder(record);
  for (const std::string_view name : outcome) named.erase(std::string(name));
  return named.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Status Validate(const Json& record, Strictness strictness) {
  if (!record.is_object()) return Invalid("a record must be a JSON object");
  const auto name = record.find("kind");
  if (name == record.end() || !IsText(*name)) {
    return Invalid("field \"kind\" is missing");
  }
  const Kind* kind = FindKind(name->get_ref<const std::string&>());
  if (kind == nullptr) {
    return Invalid(fmt::format("unknown kind {}",
                               Quote(name->get_ref<const std::string&>())));
  }
  for (const auto& [key, value] : record.items()) {
    const Field* field = FindField(key);
    if (strictness == Strictness::kStrict && !Known(*kind, key)) {
      return Invalid(fmt::format("field {} does not belong to kind {}",
                                 Quote(key), kind->name));
    }
    if (field == nullptr || value.is_null()) continue;
    const Status status = CheckField(*field, value);
    if (!status.ok()) return status;
  }
  Status status = CheckPresent(record, kind->identity);
  if (!status.ok()) return status;
  const auto outcome = record.find("status");
  const bool ok = outcome == record.end() || outcome->is_null() ||
                  outcome->get_ref<const std::string&>() == "ok";
  return CheckPresent(record, ok ? kind->result : "reason");
}

void Upgrade(int64_t from, Json& record) {
  if (from >= 2 || !record.is_object()) return;
  const auto kind = record.find("kind");
  if (kind == record.end()) return;
  if ((*kind == "speed" || *kind == "peer") && !record.contains("cache"))
    record["cache"] = "warm";
}

Json InTableOrder(const Json& record) {
  Json ordered = Json::object();
  for (const Field& field : kFields) {
    const auto it = record.find(std::string(field.name));
    if (it != record.end()) ordered[it.key()] = *it;
  }
  return ordered;
}

std::string SchemaMarkdown() {
  std::string out = "## Kinds\n\n";
  for (const Kind& kind : kKinds) {
    out += fmt::format("### `{}`\n\n{}.\n\n", kind.name, kind.doc);
    const std::array<std::pair<std::string_view, std::string_view>, 3> rows = {
        {{"always", kind.identity},
         {"when ok", kind.result},
         {"may have", kind.optional}}};
    for (const auto& [label, names] : rows) {
      if (names.empty()) continue;
      std::string list;
      for (const std::string_view name : Split(names, ' ')) {
        list += fmt::format("{}`{}`", list.empty() ? "" : ", ", name);
      }
      out += fmt::format("- {}: {}\n", label, list);
    }
    out += out.ends_with("\n\n") ? "" : "\n";
  }
  out += "## Fields\n\n| field | type | meaning |\n|---|---|---|\n";
  for (const Field& field : kFields) {
    std::string doc(field.doc);
    if (!field.choices.empty()) {
      std::string list;
      for (const std::string_view choice : Split(field.choices, '|')) {
        list += fmt::format("{}`{}`", list.empty() ? "" : ", ", choice);
      }
      doc += ": " + list;
    }
    out += fmt::format("| `{}` | {} | {} |\n", field.name, Describe(field.type),
                       doc);
  }
  return out;
}

}  // namespace saccade::record
