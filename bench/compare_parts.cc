// The parts of a measure, from a profile and a command line.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "bench/cli_parse.h"
#include "bench/compare.h"
#include "bench/json_keys.h"
#include "bench/machine.h"
#include "bench/named.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

// Items of a list, each read by `read`; `option` begins the message.
template <class T>
Status ReadList(std::string_view option, std::string_view text,
                const std::function<Result<T>(std::string_view)>& read,
                std::vector<T>* items) {
  items->clear();
  for (const std::string& part : Split(text, ',')) {
    const Result<T> item = read(part);
    if (!item.ok())
      return Invalid(fmt::format("{}: {}", option, item.status().message()));
    if (std::find(items->begin(), items->end(), *item) == items->end())
      items->push_back(*item);
  }
  if (items->empty()) return Invalid(fmt::format("{}: an empty list", option));
  return {};
}

Status ReadSweep(std::string_view option, std::string_view text, int64_t most,
                 std::vector<int64_t>* numbers) {
  Result<std::vector<int64_t>> sweep = ParseSweep(text);
  if (!sweep.ok())
    return Invalid(fmt::format("{}: {}", option, sweep.status().message()));
  if (sweep->back() > most)
    return Invalid(
        fmt::format("{}: {} is more than {}", option, sweep->back(), most));
  *numbers = std::move(*sweep);
  return {};
}

Result<DType> ReadDType(std::string_view name) {
  return FindByName("dtype", kDTypes, name);
}

Result<Mask> ReadMask(std::string_view name) {
  return FindByName("mask", kMasks, name);
}

Result<Cache> ReadCache(std::string_view name) {
  for (const Cache c : {Cache::kWarm, Cache::kCold})
    if (name == NameOf(c)) return c;
  return Invalid(
      fmt::format("'{}' is no state of caches: there are warm and cold", name));
}

// 0 stands for all cores.
Result<int> ReadThreads(std::string_view text) {
  if (text == "0" || text == "all") return UsableCores();
  const Result<int64_t> n = ParseCount(text);
  if (!n.ok() || *n > 1024)
    return Invalid(fmt::format(
        "'{}' is no number of threads: write 1 to 1024, or 0 for all cores",
        text));
  return static_cast<int>(*n);
}

// Where a part's settings come from: the command line, then the first of these
// that has the key.
struct Sources {
  const CompareOverrides& over;
  std::vector<Keys> keys;  // its own entry, the measure's, the shared shape

  std::string List(const std::string& given, const char* key,
                   const char* initial) {
    std::string text = given;
    for (Keys& k : keys)
      if (text.empty()) text = k.List(key);
    return text.empty() ? initial : text;
  }
  int64_t Count(int64_t given, const char* key, int64_t initial) {
    // The last to be read wins.
    for (auto k = keys.rbegin(); k != keys.rend(); ++k)
      k->Count(key, &initial, 0, 4096);
    return given > 0 ? given : initial;
  }
  void Number(const char* key, double* value, double low, double high) {
    // The shape has no times.
    for (size_t i = keys.size() - 1; i-- > 0;)
      keys[i].Number(key, value, low, high);
  }
  Status status() const {
    for (const Keys& k : keys)
      if (!k.status().ok()) return k.status();
    return {};
  }
};

Status ReadGrid(Sources* from, Grid* grid) {
  const CompareOverrides& over = from->over;
  constexpr int64_t kMost = int64_t{1} << 24;
  Status status = ReadSweep("-n", from->List(over.lengths, "lengths", "1k"),
                            kMost, &grid->lengths);
  if (status.ok())
    status =
        ReadSweep("-d", from->List(over.dims, "dims", "64"), 1024, &grid->dims);
  if (status.ok())
    status =
        ReadList<Pass>("--pass", from->List(over.passes, "passes", "forward"),
                       ParsePass, &grid->passes);
  if (status.ok())
    status =
        ReadList<DType>("--dtype", from->List(over.dtypes, "dtypes", "f32"),
                        ReadDType, &grid->dtypes);
  if (status.ok())
    status = ReadList<Mask>("--mask", from->List(over.masks, "masks", "causal"),
                            ReadMask, &grid->masks);
  if (status.ok())
    status = ReadList<int>("-t", from->List(over.threads, "threads", "0"),
                           ReadThreads, &grid->threads);
  if (status.ok())
    status = ReadList<Cache>("--cache", from->List(over.cache, "cache", "warm"),
                             ReadCache, &grid->caches);
  grid->batch = std::max<int64_t>(from->Count(over.batch, "batch", 1), 1);
  grid->heads = std::max<int64_t>(from->Count(over.heads, "heads", 4), 1);
  grid->kv_heads = from->Count(over.kv_heads, "kv_heads", 0);
  if (grid->kv_heads > 0 && grid->heads % grid->kv_heads != 0)
    return Invalid(fmt::format("--kv-heads: {} heads cannot share {} evenly",
                               grid->heads, grid->kv_heads));
  return status.ok() ? from->status() : status;
}

Status ReadTiming(Sources* from, Part* part) {
  SpeedSettings& t = part->timing;
  double least = t.least_rounds, most = t.most_rounds;
  from->Number("sample_seconds", &t.sample_seconds, 1e-6, 60);
  from->Number("cell_seconds", &t.cell_seconds, 1e-6, 3600);
  from->Number("least_rounds", &least, 1, 1000);
  from->Number("most_rounds", &most, 1, 1000);
  from->Number("tight", &t.tight, 0, 1);
  from->Number("longest_pass", &t.longest_pass, 1e-6, 36000);
  from->Number("longest_prefill", &t.longest_prefill, 1e-6, 36000);
  from->Number("memory_share", &t.memory_share, 0.01, 1);
  from->Number("longest_child", &part->longest_child, 0.1, 36000);
  if (!from->over.longest.empty()) {
    const Result<double> longest = ParseDuration(from->over.longest);
    if (!longest.ok())
      return Invalid(fmt::format("--longest: {}", longest.status().message()));
    t.longest_pass = *longest;
    t.longest_prefill = std::max(t.longest_prefill, *longest);
  }
  t.least_rounds = static_cast<int>(least);
  t.most_rounds = static_cast<int>(std::max(least, most));
  t.seed = from->over.seed();
  return from->status();
}

// What a part's JSON may say, by measure.
std::vector<std::string_view> KeysOf(std::string_view measure) {
  std::vector<std::string_view> keys = {
      "batch", "heads",   "kv_heads", "passes",       "lengths", "dims",
      "masks", "threads", "dtypes",   "memory_share", "also"};
  if (measure == "memory") {
    keys.push_back("longest_child");
    return keys;
  }
  for (const char* key :
       {"sample_seconds", "cell_seconds", "least_rounds", "most_rounds",
        "longest_pass", "longest_prefill", "tight", "cache"})
    keys.push_back(key);
  return keys;
}

Status ReadPart(Sources from, Part* part) {
  const Status status = ReadGrid(&from, &part->grid);
  return status.ok() ? ReadTiming(&from, part) : status;
}

}  // namespace

Result<std::vector<Part>> ReadParts(const json& profile, const char* measure,
                                    const CompareOverrides& over,
                                    const std::vector<std::string>& specs) {
  Keys top(profile, over.profile);
  const std::string where = fmt::format("{}: {}", over.profile, measure);
  Keys shape(top.Object("shape"), over.profile + ": shape");
  Keys own(top.Object(measure), where);
  shape.OnlyKnown(
      {"batch", "heads", "kv_heads", "dims", "dtypes", "masks", "threads"});
  own.OnlyKnown(KeysOf(measure));
  const json& also = own.Array("also");
  for (const Keys* k : {&top, &shape, &own})
    if (!k->status().ok()) return k->status();
  std::vector<Part> parts(1);
  parts[0].specs = specs;
  parts[0].peers = true;
  Status status = ReadPart({over, {own, shape}}, &parts[0]);
  if (!status.ok()) return status;
  for (size_t i = 0; i < also.size() && over.lengths.empty(); ++i) {
    Keys entry(also[i], fmt::format("{}: also {}", where, i + 1));
    std::vector<std::string_view> known = KeysOf(measure);
    std::replace(known.begin(), known.end(), std::string_view("also"),
                 std::string_view("variants"));
    entry.OnlyKnown(known);
    const std::string list = entry.List("variants");
    if (!entry.status().ok()) return entry.status();
    Result<std::vector<std::string>> chosen =
        ExpandSpecs(list.empty() ? "*" : list);
    if (!chosen.ok())
      return Status(chosen.status().code(),
                    fmt::format("{}: also {}: {}", where, i + 1,
                                chosen.status().message()));
    Part part;
    part.specs = over.only.empty() ? *chosen : Named(*chosen, specs);
    status = ReadPart({over, {entry, own, shape}}, &part);
    if (!status.ok()) return status;
    if (!part.specs.empty()) parts.push_back(std::move(part));
  }
  for (Part& part : parts) {
    // What a pass needs of memory is the same with any caches.
    if (std::string_view(measure) == "memory")
      part.grid.caches = {Cache::kWarm};
    part.groups = part.grid.Groups(part.specs);
  }
  return parts;
}

std::vector<std::vector<CellSpec>> Grid::Groups(
    const std::vector<std::string>& specs) const {
  std::vector<std::vector<CellSpec>> groups;
  for (const int64_t length : lengths)
    for (const int64_t dim : dims)
      for (const Mask mask : masks)
        for (const DType dtype : dtypes)
          for (const int t : threads)
            for (const Pass pass : passes) {
              // Decoding is causal: no cell of its own without a mask, unless
              // nothing else is asked for, which says so.
              if (pass == Pass::kDecode && mask == Mask::kNone &&
                  masks.size() > 1)
                continue;
              for (const Cache cache : caches) {
                std::vector<CellSpec>& group = groups.emplace_back();
                for (const std::string& spec : specs)
                  group.push_back({spec,
                                   {batch, heads, kv_heads, dim, mask},
                                   pass,
                                   dtype,
                                   length,
                                   t,
                                   cache});
              }
            }
  return groups;
}

}  // namespace saccade::bench
