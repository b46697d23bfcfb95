// Of a comparison: what is checked, timed and weighed cell by cell.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <set>

#include "bench/compare_records.h"
#include "bench/comparison.h"
#include "bench/memory.h"
#include "reports/text.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

using record::Json;

std::string GateKey(std::string_view spec, Pass pass, DType dtype) {
  return fmt::format("{} {} {}", reports::BaseName(spec), NameOf(pass),
                     NameOf(dtype));
}

}  // namespace

Status Comparison::Gate() {
  progress_.Begin("verify");
  struct Check {
    const Variant* variant;
    Pass pass;
    DType dtype;
  };
  std::vector<Check> checks;
  std::set<std::string> seen;
  const auto add = [&](const CellSpec& cell) {
    if (!seen.insert(GateKey(cell.spec, cell.pass, cell.dtype)).second) return;
    const Result<Spec> parsed = ParseSpec(cell.spec);
    if (parsed.ok() && Offers(*parsed->variant, cell.pass, cell.dtype))
      checks.push_back({parsed->variant, cell.pass, cell.dtype});
  };
  for (const auto* parts : {&o_.speed, &o_.memory})
    for (const Part& part : *parts)
      for (const std::vector<CellSpec>& group : part.groups)
        std::for_each(group.begin(), group.end(), add);
  for (size_t i = 0; i < checks.size() && !stopped(); ++i) {
    const Check& c = checks[i];
    progress_.Update(
        static_cast<double>(i) / static_cast<double>(checks.size()),
        fmt::format("verify {} {} {}", c.variant->name, NameOf(c.pass),
                    NameOf(c.dtype)));
    if (Verified(c.variant->name, c.pass, c.dtype)) continue;
    const Clock::time_point begin = Clock::now();
    const std::vector<VerifySummary> summaries = Verify(
        *c.variant, c.pass, c.dtype, Effort::kQuick, {}, ExecOf(MostThreads()));
    for (const VerifySummary& s : summaries) {
      if (s.failed > 0) {
        failed_ = true;
        failures_[GateKey(c.variant->name, c.pass, c.dtype)] =
            fmt::format("its check failed: {}; repeat it with {}", s.failure,
                        RepeatCheck(s));
      }
      const Status status = Write(VerifyRecord(s, Since(begin)));
      if (!status.ok()) return status;
    }
  }
  return {};
}

// Whether a run before this one checked it on all targets; what failed there
// has failed here.
bool Comparison::Verified(std::string_view name, Pass pass, DType dtype) {
  std::vector<const record::Record*> found;
  for (const std::string_view target : TargetNames()) {
    VerifySummary like;
    like.variant = std::string(name);
    like.pass = pass;
    like.dtype = dtype;
    like.target = std::string(target);
    found.push_back(recorded_.Find(VerifyRecord(like, 0)));
    if (!found.back()) return false;
  }
  for (const record::Record* r : found)
    if (r->status() == "fail")
      failures_[GateKey(name, pass, dtype)] =
          fmt::format("its check failed: {}; repeat it with {}",
                      r->Text("reason"), r->Text("repeat"));
  return true;
}

const std::string* Comparison::GateFailure(const CellSpec& cell) const {
  const auto it = failures_.find(GateKey(cell.spec, cell.pass, cell.dtype));
  return it == failures_.end() ? nullptr : &it->second;
}

// Plans what can be planned and was found correct; records the others.
Result<Comparison::PlannedGroup> Comparison::PlanGroup(
    const std::vector<CellSpec>& cells, std::string_view kind) {
  PlannedGroup group;
  for (const CellSpec& cell : cells) {
    Result<PlannedCell> planned = PlanCell(cell);
    const std::string* const failure = GateFailure(cell);
    const Json r = CellRecord(kind, cell, planned.ok() ? &*planned : nullptr);
    if (const record::Record* const known = recorded_.Find(r)) {
      if (planned.ok() && known->Has("median_ns"))
        model_->Learn(*planned, known->Number("median_ns") * 1e-9);
      continue;
    }
    if (planned.ok() && !failure) {
      group.push_back(std::move(*planned));
      continue;
    }
    const Status status = Write(
        failure ? WithStatus(r, "fail", *failure)
                : WithStatus(r, "unsupported", planned.status().message()));
    if (!status.ok()) return status;
  }
  return group;
}

// Starts the peers of which something is in this run; says who is left out.
void Comparison::FindPeers() {
  peers_ = OpenPeers(o_.peers, host_.places, host_.stop);
  std::erase_if(peers_, [this](const OpenedPeer& one) {
    if (!one.peer) return false;
    const Status found = SpecForPeer(*one.peer, o_.specs).status();
    if (found.ok()) return false;
    progress_.Say(fmt::format("{} is left out: {}", one.name, found.message()));
    return true;
  });
}

// The cell of a peer that is like one of ours, or why there is none.
Result<PlannedCell> Comparison::PlanPeer(const OpenedPeer& one,
                                         const CellSpec& cell) {
  if (!one.peer) return one.status;
  const auto [offer, fresh] = offers_.try_emplace(
      fmt::format("{} {} {} {} {}", one.name, NameOf(cell.pass),
                  NameOf(cell.dtype), NameOf(cell.shape.mask), cell.shape.dim));
  if (fresh) offer->second = PeerOffers(*one.peer, cell, ExecOf(cell.threads));
  if (!offer->second.ok()) return offer->second;
  return PlanPeerCell(cell, one.peer.get());
}

// Adds the peers' cells of the same problem; records those that are not to be
// had.
Status Comparison::PlanPeers(const CellSpec& like, PlannedGroup* group) {
  for (const OpenedPeer& one : peers_) {
    CellSpec cell = like;
    std::string version, computes;
    if (one.peer) {
      const Result<std::string> spec = SpecForPeer(*one.peer, o_.specs);
      if (!spec.ok()) return spec.status();
      cell.spec = computes = *spec;
      version = one.peer->version();
    }
    Result<PlannedCell> planned = PlanPeer(one, cell);
    cell.spec = one.name;
    const Json r =
        PeerRecord(cell, planned.ok() ? &*planned : nullptr, version, computes);
    if (recorded_.Find(r)) continue;
    if (planned.ok()) {
      group->push_back(std::move(*planned));
      continue;
    }
    const Status status =
        Write(WithStatus(r, "unsupported", planned.status().message()));
    if (!status.ok()) return status;
  }
  return {};
}

Status Comparison::Speed() {
  progress_.Begin("speed");
  progress_.Update(0, "speed");
  FindPeers();
  const Clock::time_point begin = Clock::now();
  const double seconds = o_.seconds.find("speed")->second;
  for (const Part& part : o_.speed) {
    const Status status = SpeedOf(part, [&] { return seconds - Since(begin); });
    if (!status.ok()) return status;
  }
  peers_.clear();
  return {};
}

Status Comparison::SpeedOf(const Part& part,
                           const std::function<double()>& seconds_left) {
  SpeedBench bench(part.timing, stream_ ? &*stream_ : nullptr, host_.stop,
                   &*model_);
  const double seconds = o_.seconds.find("speed")->second;
  for (const std::vector<CellSpec>& cells : part.groups) {
    if (stopped()) return {};
    Result<PlannedGroup> group = PlanGroup(cells, "speed");
    if (!group.ok()) return group.status();
    if (part.peers) {
      const Status peers = PlanPeers(cells[0], &*group);
      if (!peers.ok()) return peers;
    }
    std::vector<const PlannedCell*> pointers;
    for (const PlannedCell& p : *group) pointers.push_back(&p);
    if (pointers.empty()) continue;
    const int threads = cells[0].threads;
    const auto emit = [&](const SpeedResult& result) {
      NoteDrift(result);
      // What fails elsewhere is no fault of ours.
      if (result.status == "fail" && !result.planned->peer) failed_ = true;
      return Write(SpeedRecord(result));
    };
    const auto tick = [&](double, std::string_view what) {
      progress_.Update(1 - seconds_left() / seconds, what);
    };
    const auto peaks = [&](DType dtype, double flops, double stream) {
      auto& of = dtype == DType::kBF16 && MultipliesBF16() ? bf16_ : fma_;
      of[threads].push_back(flops);
      if (stream > 0) stream_rates_[threads].push_back(stream);
    };
    const Status status = bench.RunGroup(pointers, ExecOf(threads),
                                         seconds_left(), emit, tick, peaks);
    if (!status.ok()) return status;
  }
  return {};
}

// Keeps the group whose rounds saw the machine change its pace most.
void Comparison::NoteDrift(const SpeedResult& result) {
  const std::vector<double>& pace = result.times.pace;
  if (pace.empty()) return;
  const auto [least, most] = std::minmax_element(pace.begin(), pace.end());
  const double moved = *most / *least - 1;
  if (moved <= std::max(kMuchDrift, drift_.value)) return;
  const CellSpec& cell = result.planned->cell;
  drift_ = {"drift",
            fmt::format("the machine's pace moved by {:.0f} % within the "
                        "rounds of {} {} {}: such cells are compared at the "
                        "same pace",
                        100 * moved, NameOf(cell.pass), cell.length,
                        NameOf(cell.dtype)),
            moved};
}

Status Comparison::Memory() {
  progress_.Begin("memory");
  const Clock::time_point begin = Clock::now();
  const double seconds = o_.seconds.find("memory")->second;
  for (const Part& part : o_.memory)
    for (const std::vector<CellSpec>& cells : part.groups)
      for (const CellSpec& cell : cells) {
        if (stopped()) return {};
        progress_.Update(Since(begin) / seconds,
                         fmt::format("memory {} {} {}", NameOf(cell.pass),
                                     cell.length, cell.spec));
        const Status status = MemoryCell(part, cell, seconds - Since(begin));
        if (!status.ok()) return status;
      }
  return {};
}

Status Comparison::MemoryCell(const Part& part, const CellSpec& cell,
                              double seconds_left) {
  const Result<PlannedGroup> group = PlanGroup({cell}, "memory");
  if (!group.ok()) return group.status();
  if (group->empty()) return {};
  const PlannedCell& planned = group->front();
  const Needs needs = planned.needs();
  Json r = CellRecord("memory", cell, &planned);
  r["scratch_bytes"] = needs.scratch;
  r["saved_bytes"] = needs.saved;
  r["state_bytes"] = needs.state;
  r["io_bytes"] = planned.TensorBytes();
  const double takes = kChildStart + model_->Whole(planned);
  const double room =
      part.timing.memory_share * static_cast<double>(AvailableMemory());
  std::string why;
  if (takes > part.longest_child)
    why = fmt::format("running it takes longer than {:.2g} s: about {:.2g} s",
                      part.longest_child, takes);
  else if (takes > seconds_left)
    why = fmt::format(
        "the time for memory is used up (see --budget): it needs about {:.2g} "
        "s, and {:.2g} s are left",
        takes, std::max(0.0, seconds_left));
  if (room > 0 && static_cast<double>(planned.TotalBytes()) > room)
    why = fmt::format(
        "memory is short: it needs {:.2f} GiB, more than {:.0f} % of what is "
        "available",
        static_cast<double>(planned.TotalBytes()) * 0x1p-30,
        100 * part.timing.memory_share);
  if (!why.empty()) return Write(WithStatus(r, "skipped", why));
  const Result<int64_t> growth = MeasureGrowthInChild(
      host_.program, cell, 4 * part.longest_child, host_.stop);
  if (stopped()) return {};
  if (!growth.ok())
    return Write(WithStatus(r, "skipped", growth.status().message()));
  r["rss_growth_bytes"] = *growth;
  return Write(r);
}

}  // namespace saccade::bench
