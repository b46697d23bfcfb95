// saccade doctor: whether times taken on this machine can be trusted.
#include "bench/doctor.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "bench/command.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Looks at the processor, its peaks on one and on all threads, the clock, and what
disturbs timing now. A warning makes times less sure; a note is worth knowing.

Examples:
  saccade doctor
  saccade doctor --strict && saccade compare --strict
  saccade doctor --json)";

struct DoctorOptions {
  bool json = false, strict = false;
};

void PrintText(const Examination& e, const Host& host) {
  size_t width = 0;
  for (const Finding& f : e.findings) width = std::max(width, f.subject.size());
  for (const Finding& f : e.findings) {
    fmt::print(host.out, "{:<7}  {:<{}}  {}\n", NameOf(f.level), f.subject,
               width, f.what);
    if (!f.advice.empty())
      fmt::print(host.out, "{:<7}  {:<{}}  -> {}\n", "", "", width, f.advice);
  }
}

void PrintJson(const Examination& e, const Host& host) {
  record::Json all = e.facts;
  all["peaks"] = e.peaks;
  all["noise"] = record::Json::array();
  for (const Noise& n : e.noise) all["noise"].push_back(NoiseRecord(n));
  all["findings"] = record::Json::array();
  for (const Finding& f : e.findings)
    all["findings"].push_back({{"subject", f.subject},
                               {"level", NameOf(f.level)},
                               {"what", f.what},
                               {"advice", f.advice}});
  fmt::print(host.out, "{}\n",
             all.dump(2, ' ', false, record::Json::error_handler_t::replace));
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<DoctorOptions>();
  app.add_flag("--json", o->json, "As JSON");
  app.add_flag("--strict", o->strict, "Exit 4 when there is noise");
  return [o](const Invocation& call) {
    const Examination e = Examine(call.host);
    if (o->json) {
      PrintJson(e, call.host);
    } else {
      PrintText(e, call.host);
    }
    return o->strict && !e.noise.empty() ? kExitNoisy : kExitOk;
  };
}

}  // namespace

namespace commands {
const Command doctor = {"doctor",
                        "Look at this machine: peaks, timer, noise, what is "
                        "installed",
                        kExamples, Declare};
}

}  // namespace saccade::bench
