// saccade list --probes: what each asks, for people and for programs.
#include "bench/list_probes.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <nlohmann/json.hpp>

#include "bench/probes/probe.h"

namespace saccade::bench {
namespace {

using nlohmann::ordered_json;

void PrintOne(const Probe& p, std::ostream& out) {
  std::string lengths;
  for (const int64_t len : p.lengths) {
    lengths += fmt::format("{}{}", lengths.empty() ? "" : ", ", len);
  }
  fmt::print(out,
             "{}\n  {}\n  source: {}\n  expected: {}\n"
             "  tokens: {} (trained at the first); {} symbols; guessing is "
             "right {:.3g} of the time\n"
             "  told apart by: {}\n"
             "  model: {} wide, 2 layers, {} head{}, {} steps\n\n",
             p.name, p.title, p.source, p.expectation, lengths, p.symbols,
             p.chance, p.bucket, p.model_width, p.heads,
             p.heads == 1 ? "" : "s", p.steps);
}

ordered_json JsonOf(const Probe& p) {
  return {{"name", p.name},         {"title", p.title},
          {"source", p.source},     {"expected", p.expectation},
          {"bucket", p.bucket},     {"symbols", p.symbols},
          {"chance", p.chance},     {"lengths", p.lengths},
          {"width", p.model_width}, {"heads", p.heads},
          {"steps", p.steps},       {"rate", p.rate}};
}

}  // namespace

int ListProbes(bool as_json, const Host& host) {
  ordered_json all = ordered_json::array();
  for (const Probe* p : Probes()) {
    if (as_json) {
      all.push_back(JsonOf(*p));
    } else {
      PrintOne(*p, host.out);
    }
  }
  if (as_json) fmt::print(host.out, "{}\n", all.dump(2));
  return kExitOk;
}

}  // namespace saccade::bench
