#include "bench/lenses/look.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "bench/learn/matrix.h"
#include "bench/learn/random.h"
#include "bench/learn/train.h"
#include "bench/lenses/lens.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr int64_t kInputsLen = 512;
constexpr int64_t kModelLen = 128;  // at most
constexpr int64_t kSequences = 4;   // of a model's weights

// Where the records of one subject go, and what they share.
struct Page {
  json base;
  const LensSink& sink;

  Status Failed(std::string_view lens, const Status& why) const {
    json r = base;
    r.update(
        {{"lens", lens}, {"status", "unsupported"}, {"reason", why.message()}});
    return sink(r);
  }
  Status Write(const Quantity& quantity, const Reading& reading) const {
    json r = base;
    r.update({{"lens", reading.name},
              {"value", reading.value},
              {"title", quantity.how}});
    if (!quantity.expected.empty()) r["expected"] = quantity.expected;
    if (reading.picture.size > 0) {
      r["picture"] = reading.picture.levels;
      r["q_len"] = reading.picture.size;
    }
    for (const double x : reading.curve) {
      // Three digits are more than a picture shows.
      r["curve"].push_back(std::stod(fmt::format("{:.3g}", x)));
    }
    return sink(r);
  }
};

json BaseOf(const std::string& spec, std::string_view subject, uint64_t seed) {
  return {{"kind", "lens"},
          {"status", "ok"},
          {"variant", spec},
          {"subject", subject},
          {"seed", seed}};
}

Status LookThrough(const Lens& lens, const Subject& subject, Exec& exec,
                   const Page& page) {
  const auto readings = lens.look(subject, exec);
  if (!readings.ok()) return page.Failed(lens.name, readings.status());
  for (const Quantity& quantity : lens.quantities) {
    for (const Reading& reading : *readings) {
      if (reading.name != quantity.name || !std::isfinite(reading.value)) {
        continue;
      }
      const Status status = page.Write(quantity, reading);
      if (!status.ok()) return status;
    }
  }
  return {};
}

Status LookThroughAll(const Subject& subject, Exec& exec, const Page& page) {
  for (const Lens* lens : Lenses()) {
    if (!CanLook(*lens, subject)) continue;
    const Status status = LookThrough(*lens, subject, exec, page);
    if (!status.ok()) return status;
  }
  return {};
}

// Sequences behind a BOS token: of the text, or of random bytes.
std::vector<int32_t> Sequences(const Model& model, std::string_view text,
                               int64_t len, uint64_t seed) {
  std::string bytes(text.substr(0, kSequences * len));
  Random random(seed, "text");
  while (static_cast<int64_t>(bytes.size()) < kSequences * len) {
    bytes.push_back(static_cast<char>(
        random.Below(std::min<int64_t>(256, model.options().symbols - 1))));
  }
  std::vector<int32_t> tokens(kSequences * len), targets(len);
  for (int64_t b = 0; b < kSequences; ++b) {
    TextSequence(std::string_view(bytes).substr(b * len, len), model.bos(),
                 &tokens[b * len], targets.data());
  }
  return tokens;
}

// BOS and then 4 times the same random bytes.
std::vector<int32_t> Repetition(const Model& model, uint64_t seed) {
  constexpr int64_t kLen = 1 + kRepeats * kRepeatPeriod;
  Random random(seed, "repeats");
  std::vector<int32_t> tokens;
  for (int64_t b = 0; b < kSequences; ++b) {
    tokens.push_back(model.bos());
    for (int64_t t = 1; t < kLen; ++t) {
      tokens.push_back(
          t <= kRepeatPeriod
              ? static_cast<int32_t>(random.Below(model.options().symbols - 1))
              : tokens[tokens.size() - kRepeatPeriod]);
    }
  }
  return tokens;
}

}  // namespace

Status LookAtInputs(const std::string& spec, uint64_t seed, Exec& exec,
                    const LensSink& sink) {
  UseOneBlasThread();
  const Page page = {BaseOf(spec, "inputs", seed), sink};
  const Result<Spec> parsed = ParseSpec(spec);
  if (!parsed.ok()) return page.Failed("weights", parsed.status());
  const Variant& variant = *parsed->variant;
  Subject subject = {*parsed};
  subject.seed = seed;
  const auto weights = [&](int64_t len, int64_t period) {
    const Drawn drawn = DrawInputs(*parsed, len, period, seed);
    return WeightsOf(variant, drawn.problem, drawn.inputs(variant), exec);
  };
  const auto plain = weights(kInputsLen, 0);
  const auto repeats = weights(kRepeats * kRepeatPeriod, kRepeatPeriod);
  if (!plain.ok() || !repeats.ok()) {
    const Status failed =
        page.Failed("weights", plain.ok() ? repeats.status() : plain.status());
    if (!failed.ok()) return failed;
  } else {
    subject.weights = &*plain;
    subject.repeats = &*repeats;
  }
  return LookThroughAll(subject, exec, page);
}

Status LookAtModel(const Model& model, bool trained, std::string_view text,
                   uint64_t seed, Exec& exec, const LensSink& sink) {
  UseOneBlasThread();
  const Page page = {
      BaseOf(model.options().spec, trained ? "trained" : "fresh", seed), sink};
  Subject subject = {model.spec()};
  subject.model = &model;
  subject.trained = trained;
  subject.seed = seed;
  const int64_t len = std::min(kModelLen, model.options().train_len);
  const auto plain =
      WeightsOf(model, Sequences(model, text, len, seed), kSequences, exec);
  if (plain.ok()) {
    subject.weights = &*plain;
  } else if (const Status s = page.Failed("weights", plain.status()); !s.ok()) {
    return s;
  }
  Result<Weights> repeats = Weights();
  if (plain.ok() && len > kRepeats * kRepeatPeriod) {
    repeats = WeightsOf(model, Repetition(model, seed), kSequences, exec);
    if (repeats.ok()) subject.repeats = &*repeats;
  }
  return LookThroughAll(subject, exec, page);
}

Status LookAtStart(const Model& fresh, std::string_view text, uint64_t seed,
                   Exec& exec, const LensSink& sink) {
  UseOneBlasThread();
  const Page page = {BaseOf(fresh.options().spec, "fresh", seed), sink};
  Subject subject = {fresh.spec()};
  subject.model = &fresh;
  subject.text = text;
  subject.seed = seed;
  for (const Lens* lens : Lenses()) {
    if (lens->sees != Sees::kStart) continue;
    const Status status = LookThrough(*lens, subject, exec, page);
    if (!status.ok()) return status;
  }
  return {};
}

Status RunLenses(const LensOptions& o, Exec& exec, const LensSink& sink,
                 const LensTick& tick) {
  const auto looks = static_cast<double>(2 * o.specs.size());
  double done = 0;
  for (const std::string& spec : o.specs) {
    if (!tick(done++ / looks, fmt::format("lenses: {}", spec))) return {};
    Status status = LookAtInputs(spec, o.seed, exec, sink);
    if (!status.ok()) return status;
    if (!tick(done++ / looks, fmt::format("lenses: {}, in a model", spec))) {
      return {};
    }
    ModelOptions options = o.model;
    options.spec = spec;
    Result<Model> model = Model::Make(options);
    if (!model.ok()) {
      status = Page{BaseOf(spec, "fresh", o.seed), sink}.Failed("model",
                                                                model.status());
    } else {
      model->parameters().Start(o.seed);
      status = LookAtModel(*model, false, {}, o.seed, exec, sink);
    }
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace saccade::bench
