#include "bench/learn/readings.h"

#include <fmt/format.h>

#include "bench/learn/probing.h"
#include "bench/learn/protocols.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

json Unsupported(json record, const Status& status) {
  record.update({{"status", "unsupported"}, {"reason", status.message()}});
  return record;
}

}  // namespace

std::vector<json> ReadTextJob(const LearnOptions& options, const Job& job,
                              const Model& model, std::string_view test,
                              Exec& exec, const ReadTick& tick) {
  const LearnOptions o = ReadingsOf(options, job);
  std::vector<json> records;
  for (const Switch* change : Allowed(model, o.switches)) {
    for (const int64_t r : o.multiples) {
      const int64_t len = r * o.train_len;
      const auto read = [&]() -> Result<std::vector<TextReading>> {
        const Result<Changes> changes = change->at(model, r);
        if (!changes.ok()) return changes.status();
        ReadOptions reading = ReadingAt(o, r);
        reading.window = changes->window;
        reading.positions = changes->positions;
        return ReadText(model, test, reading, exec,
                        [&](int64_t tokens) { return tick(tokens, len); });
      };
      const auto readings = read();
      json record = {{"kind", "extrapolation"},  {"variant", job.spec},
                     {"switch", change->name},   {"seed", job.seed},
                     {"train_len", o.train_len}, {"eval_len", len}};
      if (job.by_flops) record["match"] = kByFlops;
      if (!readings.ok()) {
        json failed = record;
        failed["protocol"] = o.protocols.front()->name;
        records.push_back(Unsupported(failed, readings.status()));
        continue;
      }
      for (const TextReading& reading : *readings) {
        json made = record;
        made.update({{"protocol", reading.protocol},
                     {"bits_per_byte", reading.bits.value},
                     {"low", reading.bits.low},
                     {"high", reading.bits.high},
                     {"tokens", reading.tokens}});
        if (reading.bucket) made["bucket"] = *reading.bucket;
        records.push_back(made);
      }
    }
  }
  return records;
}

std::vector<json> ReadProbeJob(const LearnOptions& o, const Job& job,
                               const Model& model, Exec& exec,
                               const ReadTick& tick) {
  std::vector<json> records;
  const Probe& probe = *job.probe;
  for (const int64_t len : LengthsOf(o, probe)) {
    const auto reading =
        ReadProbe(probe, model, ProbingAt(o, probe, len), exec,
                  [&](int64_t tokens) { return tick(tokens, len); });
    const json record = {
        {"kind", "probe"},     {"variant", job.spec},
        {"probe", probe.name}, {"switch", "plain"},
        {"seed", job.seed},    {"train_len", probe.train_len()},
        {"eval_len", len}};
    if (!reading.ok()) {
      records.push_back(Unsupported(record, reading.status()));
      continue;
    }
    for (json& scored : ProbeRecords(probe, *reading, record)) {
      records.push_back(std::move(scored));
    }
  }
  return records;
}

}  // namespace saccade::bench
