#include "bench/cell_server.h"

#include <algorithm>
#include <istream>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>

#include "bench/compare_records.h"
#include "bench/machine.h"
#include "bench/memory.h"
#include "bench/resume.h"
#include "bench/workload.h"
#include "record/json.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

// The server: of cells one at a time.
class CellServer {
 public:
  explicit CellServer(const StopFlag* stop) : stop_(stop) {}

  json Answer(const json& question) {
    const std::string op = Text(question, "op");
    if (op == "facts") {
      record::Json facts = MachineFacts();
      facts["build"] = DigestOfFile("/proc/self/exe");
      return {{"facts", json(facts)}};
    }
    if (op == "sample") return Sample(question);
    if (op == "finite") return {{"finite", work_ && work_->Finite()}};
    if (op != "verify" && op != "setup") return Error("no such op: " + op);
    const auto cell = question.find("cell");
    Result<CellSpec> spec =
        CellFromJson(cell == question.end() ? "" : record::Dump(*cell));
    if (!spec.ok()) return Error(spec.status().message());
    return op == "verify" ? Check(*spec) : Setup(*spec, question);
  }

 private:
  static json Error(const std::string& why) { return {{"error", why}}; }
  static json Refusal(const Status& status) {
    const bool offered = status.code() != Code::kUnsupported &&
                         status.code() != Code::kNotFound &&
                         status.code() != Code::kInvalid;
    return {{offered ? "error" : "unsupported", status.message()}};
  }
  static std::string Text(const json& question, const char* key) {
    const auto it = question.find(key);
    return it != question.end() && it->is_string() ? it->get<std::string>()
                                                   : "";
  }
  static double Number(const json& question, const char* key, double initial) {
    const auto it = question.find(key);
    return it != question.end() && it->is_number() ? it->get<double>()
                                                   : initial;
  }

  json Check(const CellSpec& cell) {
    const Result<Spec> spec = ParseSpec(cell.spec);
    if (!spec.ok()) return Refusal(spec.status());
    json records = json::array({json(VariantRecord(cell.spec))});
    if (Offers(*spec->variant, cell.pass, cell.dtype)) {
      const double begin = SteadySeconds();
      const auto exec = MakeTbbExec(cell.threads);
      for (const VerifySummary& s :
           Verify(*spec->variant, cell.pass, cell.dtype, Effort::kQuick, {},
                  *exec))
        records.push_back(json(VerifyRecord(s, SteadySeconds() - begin)));
    }
    return {{"records", records}};
  }

  json Setup(const CellSpec& cell, const json& question) {
    work_.reset();
    Result<PlannedCell> planned = PlanCell(cell);
    if (!planned.ok()) return Refusal(planned.status());
    planned_ = std::move(*planned);
    exec_ = MakeTbbExec(cell.threads);
    handicap_ = Number(question, "handicap", 0);
    Result<WarmWorkload> warm =
        MakeWarm(&*planned_, static_cast<uint64_t>(Number(question, "seed", 1)),
                 *exec_, stop_);
    if (!warm.ok()) return Refusal(warm.status());
    work_ = std::move(warm->workload);
    seconds_ = warm->seconds;
    SpeedResult nothing;
    nothing.planned = &*planned_;
    nothing.status = "skipped";
    record::Json record = SpeedRecord(nothing);
    record.erase("status");
    record.erase("reason");
    return {{"record", json(record)},
            {"seconds", warm->seconds},
            {"before", warm->before}};
  }

  json Sample(const json& question) {
    if (!work_) return Error("nothing is set up");
    const auto runs =
        static_cast<int64_t>(std::clamp(Number(question, "runs", 1), 1.0, 1e9));
    // What the other's turn left in the caches is not this one's; a long pass
    // hardly sees it.
    Status status;
    if (seconds_ < kLong) {
      status = work_->Rewind(1);
      if (status.ok()) status = work_->Run(*exec_);
    }
    if (!status.ok()) return Error(status.message());
    // Decoding goes back to its length between as many as there is room for.
    double sum = 0;
    for (int64_t done = 0; done < runs;) {
      const int64_t some =
          std::min(runs - done, RunsOfSample(*planned_, 1e-9, 1));
      status = work_->Rewind(some);
      if (!status.ok()) return Error(status.message());
      const Result<double> seconds =
          TimeRuns(work_.get(), some, handicap_, *exec_);
      if (!seconds.ok()) return Error(seconds.status().message());
      sum += *seconds * static_cast<double>(some);
      done += some;
    }
    return {{"seconds", sum / static_cast<double>(runs)}};
  }

  static constexpr double kLong = 0.02;  // seconds

  const StopFlag* const stop_;
  std::unique_ptr<Exec> exec_;
  std::optional<PlannedCell> planned_;
  std::unique_ptr<Workload> work_;
  double handicap_ = 0;
  double seconds_ = 0;  // of a run
};

}  // namespace

void ServeCells(std::istream& in, std::ostream& out, const StopFlag* stop) {
  CellServer server(stop);
  const auto say = [&out](const json& line) {
    out << record::Dump(line) << "\n" << std::flush;
  };
  say({{"cells", kCellProtocol}});
  for (std::string line; std::getline(in, line);) {
    const json question = json::parse(line, nullptr, /*exceptions=*/false);
    say(question.is_object() ? server.Answer(question)
                             : json{{"error", "that is no question"}});
  }
}

}  // namespace saccade::bench
