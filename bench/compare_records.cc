#include "bench/compare_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "bench/cli_parse.h"
#include "bench/peer.h"
#include "bench/statistics.h"
#include "bench/variant_facts.h"
#include "reports/text.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

using record::Json;

// A long run with its raw samples stays well below this.
constexpr std::uintmax_t kRoom = std::uintmax_t{16} << 20;  // bytes

// `peer` may be empty.
std::string Repeat(std::string_view measure, const std::string& spec,
                   const std::string& peer, const CellSpec& c) {
  std::string command = fmt::format(
      "saccade compare --measure {} --only '{}'{} -n {} -d {} --heads {}",
      measure, spec, peer.empty() ? "" : " --peers " + peer, c.length,
      c.shape.dim, c.shape.heads);
  if (c.shape.kv_heads > 0)
    command += fmt::format(" --kv-heads {}", c.shape.kv_heads);
  if (c.shape.batch > 1) command += fmt::format(" --batch {}", c.shape.batch);
  command +=
      fmt::format(" --dtype {} --mask {} --pass {} -t {}", NameOf(c.dtype),
                  NameOf(c.shape.mask), NameOf(c.pass), c.threads);
  return c.cache == Cache::kWarm ? command : command + " --cache cold";
}

Json TraitsOf(const Traits& traits) {
  Json names = Json::array();
  for (const TraitName& t : TraitNames())
    if (traits.*t.has) names.push_back(t.name);
  return names;
}

// A disk that is nearly full is said before anything is measured.
Status CheckRoom(const std::string& folder) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (error || space.available >= kRoom) return {};
  return Exhausted(fmt::format(
      "{}: only {:.1f} MiB are free there; a run may need {} MiB", folder,
      static_cast<double>(space.available) * 0x1p-20, kRoom >> 20));
}

}  // namespace

Result<std::unique_ptr<RecordSink>> RecordSink::Create(
    const std::string& out, const record::Json& header) {
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error || !std::filesystem::is_directory(out, error))
    return IoError(fmt::format("{}: cannot make this folder: {}", out,
                               error ? error.message() : "a file is there"));
  const Status room = CheckRoom(out);
  if (!room.ok()) return room;
  Result<record::RecordWriter> writer =
      record::RecordWriter::Create(out + "/run.jsonl", header);
  if (!writer.ok()) return writer.status();
  return std::unique_ptr<RecordSink>(new RecordSink(std::move(*writer)));
}

Result<std::unique_ptr<RecordSink>> RecordSink::Resume(const record::Run& run) {
  const Status room =
      CheckRoom(std::filesystem::path(run.path).parent_path().string());
  if (!room.ok()) return room;
  Result<record::RecordWriter> writer = record::RecordWriter::Resume(run);
  if (!writer.ok()) return writer.status();
  return std::unique_ptr<RecordSink>(new RecordSink(std::move(*writer)));
}

Status RecordSink::Write(const Json& record) {
  const std::lock_guard lock(mutex_);
  if (finished_) return Invalid("the run has ended");
  return writer_.Write(record);
}

Status RecordSink::Finish(std::string_view status, std::string_view reason,
                          double seconds) {
  const std::lock_guard lock(mutex_);
  if (finished_) return {};
  finished_ = true;
  Json end = {{"kind", "end"}, {"seconds", seconds}};
  if (status != "ok") end = WithStatus(std::move(end), status, reason);
  const Status written = writer_.Write(end);
  const Status closed = writer_.Close();
  return written.ok() ? closed : written;
}

Json WithStatus(Json record, std::string_view status, std::string_view reason) {
  record["status"] = status;
  record["reason"] = reason;
  return record;
}

Json CellRecord(std::string_view kind, const CellSpec& cell,
                const PlannedCell* planned) {
  const Shape& s = cell.shape;
  Json r = {
      {"kind", kind},
      {"variant", cell.spec},
      {"pass", NameOf(cell.pass)},
      {"dtype", NameOf(cell.dtype)},
      {"mask", NameOf(s.mask)},
      {"batch", s.batch},
      {"q_len", cell.pass == Pass::kDecode ? 1 : cell.length},
      {"kv_len", cell.length},
      {"threads", cell.threads},
      {"target", ChosenTarget()},
      {"setting",
       fmt::format(
           "width {}, {}heads {} x {}", s.heads * s.dim,
           s.kv_heads > 0 ? fmt::format("key heads {}, ", s.kv_heads) : "",
           s.heads, s.dim)},
      {"repeat", Repeat(kind, cell.spec, "", cell)}};
  if (kind != "memory") r["cache"] = NameOf(cell.cache);
  if (planned) {
    const Problem& p = planned->problem;
    r["q_heads"] = p.q_heads;
    r["kv_heads"] = p.kv_heads;
    r["qk_dim"] = p.qk_dim;
    r["v_dim"] = p.v_dim;
  }
  return r;
}

Json PeerRecord(const CellSpec& cell, const PlannedCell* planned,
                const std::string& version, const std::string& computes) {
  Json r = CellRecord("peer", cell, planned);
  r.erase("variant");
  if (!computes.empty()) r["variant"] = computes;
  r["peer"] = cell.spec;
  r["repeat"] = Repeat(
      "speed",
      computes.empty() ? std::string(Variants().front()->name) : computes,
      cell.spec, cell);
  if (!version.empty()) r["version"] = version;
  return r;
}

Json SpeedRecord(const SpeedResult& result) {
  const PlannedCell& p = *result.planned;
  Json r = p.peer ? PeerRecord(p.cell, &p, p.peer->version(), p.computes)
                  : CellRecord("speed", p.cell, &p);
  if (p.peer) {
    r["kappa"] = p.variant->kappa;
    if (result.worst >= 0) r["worst"] = std::min(result.worst, 1e300);
  }
  r["flops"] = p.flops();
  r["bytes"] = p.bytes();
  if (result.status != "ok")
    return WithStatus(std::move(r), result.status, result.reason);
  if (p.peer) r["reason"] = p.peer->how();
  const LaneSummary& times = result.times;
  r["ns"] = times.ns;
  if (!times.pace.empty()) r["pace"] = times.pace;
  r["median_ns"] = times.median;
  r["low_ns"] = times.low;
  r["high_ns"] = times.high;
  if (times.flops > 0) r["peak_share"] = p.flops() / times.flops;
  if (times.bytes > 0) r["bandwidth_share"] = p.bytes() / times.bytes;
  return r;
}

Json VerifyRecord(const VerifySummary& s, double seconds) {
  Json r = {{"kind", "verify"},       {"variant", s.variant},
            {"pass", NameOf(s.pass)}, {"dtype", NameOf(s.dtype)},
            {"target", s.target},     {"cases", s.cases},
            {"failures", s.failed},   {"kappa", s.kappa},
            {"worst", s.worst_ratio}, {"seconds", seconds}};
  if (s.ok()) return r;
  if (!s.repeat.empty()) r["repeat"] = RepeatCheck(s);
  if (s.failed == 0)
    return WithStatus(
        std::move(r), "unsupported",
        s.refusal.empty() ? "no case of it could be run" : s.refusal);
  return WithStatus(std::move(r), "fail", s.failure);
}

std::string RepeatCheck(const VerifySummary& s) {
  return fmt::format("saccade verify --target {} --case '{}'", s.target,
                     s.repeat);
}

Json VariantRecord(const std::string& spec) {
  Json r = {{"kind", "variant"}, {"variant", spec}};
  const std::string name = reports::BaseName(spec);
  int64_t order = 0;
  for (const Variant* v : Variants()) {
    if (v->name == name) {
      r["title"] = v->title;
      r["family"] = name.substr(0, name.find('.'));
      r["order"] = order;
      r["source"] = v->source;
      r["baseline"] = order == 0;  // the list begins with it
      r["traits"] = TraitsOf(v->traits);
      r["kappa"] = v->kappa;
    }
    ++order;
  }
  return r;
}

Json PeakRecord(std::string_view peak, int threads,
                std::span<const double> samples) {
  return {{"kind", "peak"},
          {"peak", peak},
          {"threads", threads},
          {"target", ChosenTarget()},
          {peak == "stream" ? "gbps" : "gflops", Median(samples) * 1e-9}};
}

std::string Brief(const record::Json& record) {
  const record::Record r(record);
  const record::Kind* const kind = record::FindKind(r.kind());
  if (!kind || kind->result.empty() || r.kind() == "variant") return {};
  std::string line = r.kind();
  const auto add = [&](std::string_view names, std::string_view before) {
    for (const std::string& name : Split(names, ' ')) {
      if (!r.Has(name)) continue;
      const double number = r.Number(name);
      std::string value = r.Text(name);
      if (value.empty()) {
        value = name + " ";
        value += name.ends_with("_ns")      ? reports::FormatTime(number)
                 : name.ends_with("_bytes") ? reports::FormatBytes(number)
                                            : reports::FormatNumber(number);
      }
      line += std::string(before) + value;
      before = before == ": " ? ", " : before;
    }
  };
  add(kind->identity, " ");
  add("dtype mask threads", " ");
  if (r.ok()) {
    add(kind->result, ": ");
  } else {
    line += fmt::format(": {}, {}", r.status(), r.Text("reason"));
  }
  return line;
}

}  // namespace saccade::bench
