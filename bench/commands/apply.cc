// saccade apply: one variant on arrays from NumPy.
#include "bench/apply.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <optional>
#include <set>

#include "bench/choices.h"
#include "bench/command.h"
#include "bench/workload.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Arrays are .npy files as NumPy writes them, f16, f32, f64 or ml_dtypes.bfloat16,
in C or Fortran order, all of one rank:
  [T, D]         tokens, width of a head
  [H, T, D]      heads, tokens, width
  [B, H, T, D]   batch, heads, tokens, width
k and v have as many heads as each other, and q a multiple of those; they may be
longer or shorter than q, and v of another width. --causal is aligned at the
bottom right: the last query sees all keys. --mask takes [Tq, Tk], [H, Tq, Tk] or
[B, H, Tq, Tk], any size 1 for all: booleans, True where a query attends, or
numbers that are added to the scores.

Arithmetic is f32: f64 is rounded to it. What is written has the type of q, and
gradients that of the array they belong to; the log-sum-exp and the weights are
f32, or f64 where q is. Effective weights are what the variant gives for values
that are the identity; gates count as open.

Examples:
  saccade apply softmax.flash --q q.npy --k k.npy --v v.npy -o out.npy
  saccade apply 'softmax.window:size=64+rope' --q q.npy --k k.npy --v v.npy \
    --causal -o out.npy --lse lse.npy --weights weights.npy
  saccade apply linear.elu --q q.npy --k k.npy --v v.npy --grad dout.npy \
    -o out.npy                            also out.dq.npy, out.dk.npy, out.dv.npy
  saccade apply gated.gau --q q.npy --k k.npy --v v.npy --gate u.npy -o out.npy)";

struct Options {
  std::string spec, q, k, v, gate, mask, out, lse, weights, dout, dtype;
  std::vector<std::string> inputs;  // name=file
  std::optional<double> scale;
  double softcap = 0;
  int threads = 0;
  bool causal = false;
};

Status Read(const std::string& path, NamedArray* to) {
  Result<NpyArray> array = ReadNpy(path);
  if (!array.ok()) return array.status();
  *to = {path, std::move(*array)};
  return {};
}

Status ReadInputs(const Options& o, ApplyRequest* r) {
  std::vector<std::string> named = o.inputs;
  if (!o.gate.empty()) named.push_back("gate=" + o.gate);
  for (const std::string& one : named) {
    const size_t equals = one.find('=');
    if (equals == std::string::npos || equals == 0)
      return Invalid(
          fmt::format("--input: NAME=FILE is wanted, not '{}'", one));
    const auto [at, fresh] = r->inputs.try_emplace(one.substr(0, equals));
    if (!fresh) return Invalid(fmt::format("input '{}' twice", at->first));
    if (Status s = Read(one.substr(equals + 1), &at->second); !s.ok()) return s;
  }
  return {};
}

Result<ApplyRequest> RequestOf(const Options& o) {
  if (const Result<Spec> spec = ParseSpec(o.spec); !spec.ok())
    return spec.status();
  if (o.scale && !(std::isfinite(*o.scale) && *o.scale != 0))
    return Invalid("--scale must be a number other than 0");
  ApplyRequest r;
  r.spec = o.spec;
  r.mask = o.causal ? Mask::kCausal : Mask::kNone;
  r.scale = static_cast<float>(o.scale.value_or(0));
  r.softcap = static_cast<float>(o.softcap);
  r.threads = o.threads;
  r.lse = !o.lse.empty();
  r.weights = !o.weights.empty();
  for (const DType dtype : kDTypes)
    if (o.dtype == NameOf(dtype)) r.dtype = dtype;
  Status status = Read(o.q, &r.q);
  if (status.ok()) status = Read(o.k, &r.k);
  if (status.ok()) status = Read(o.v, &r.v);
  if (status.ok()) status = ReadInputs(o, &r);
  if (status.ok() && !o.mask.empty())
    status = Read(o.mask, &r.attn_mask.emplace());
  if (status.ok() && !o.dout.empty()) status = Read(o.dout, &r.dout.emplace());
  if (!status.ok()) return status;
  return r;
}

// "out.npy" and "dq": "out.dq.npy".
std::string Beside(const std::string& path, const std::string& name) {
  constexpr std::string_view kEnd = ".npy";
  const bool ends = path.ends_with(kEnd);
  return fmt::format("{}.{}{}", path.substr(0, path.size() - 4 * ends), name,
                     kEnd);
}

// Everything is computed before anything is written.
int Write(const Options& o, const Applied& a, const Host& host) {
  std::vector<std::pair<std::string, const NpyArray*>> files = {
      {o.out, &a.out}};
  if (a.lse) files.emplace_back(o.lse, &*a.lse);
  if (a.weights) files.emplace_back(o.weights, &*a.weights);
  for (const auto& [name, gradient] : a.gradients)
    files.emplace_back(Beside(o.out, name), &gradient);
  std::set<std::string> paths;
  for (const auto& [path, array] : files)
    if (!paths.insert(path).second)
      return Complain(Invalid(fmt::format("{} would be written twice", path)),
                      host);
  for (const auto& [path, array] : files) {
    const Status s = WriteNpy(path, array->type, array->shape, array->values);
    if (!s.ok()) return Complain(s, host);
    if (host.talk != Talk::kQuiet)
      fmt::print(host.out, "{}: {} {}\n", path, NameOf(array->type),
                 TupleOf(array->shape));
  }
  return kExitOk;
}

int Run(const Options& o, const Host& host) {
  Result<ApplyRequest> request = RequestOf(o);
  if (!request.ok()) return Complain(request.status(), host);
  const Result<Applied> applied = Apply(std::move(*request));
  if (!applied.ok()) return Complain(applied.status(), host);
  if (host.talk == Talk::kVerbose)
    Say(host, fmt::format("{}: {}", o.spec, applied->ran));
  return Write(o, *applied, host);
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("SPEC", o->spec,
                 "The variant: NAME:knob=value,...+position; see saccade list")
      ->required()
      ->type_name("");
  const auto file = [&app](const char* name, std::string* to,
                           const char* about) {
    return app.add_option(name, *to, about)->type_name(kFile);
  };
  file("--q", &o->q, "Queries")->required();
  file("--k", &o->k, "Keys")->required();
  file("--v", &o->v, "Values")->required();
  file("--gate", &o->gate, "The gate, of variants that have one");
  app.add_option("--input", o->inputs,
                 "Any other input of a variant, by the name that list shows")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  app.add_flag("--causal", o->causal, "Queries see no later keys");
  file("--mask", &o->mask, "Which keys queries see, or what scores get added");
  app.add_option("--softcap", o->softcap,
                 "Scores become c tanh(score / c); without, as they are")
      ->check(CLI::PositiveNumber);
  app.add_option("--scale", o->scale,
                 "Of scores; without, the variant's own, mostly 1/sqrt(D)");
  TakesOneOf(app.add_option("--dtype", o->dtype,
                            "Storage to compute on: bf16 rounds what is read; "
                            "without, as the files are"),
             NamesOfAll(kDTypes));
  app.add_option("-t,--threads", o->threads, "Threads; 0 means all cores")
      ->check(CLI::Range(0, 1024));
  file("-o,--out", &o->out, "Where the output goes")->required();
  file("--lse", &o->lse, "Where the log-sum-exp of each row's scores goes");
  file("--weights", &o->weights, "Where the effective weights go");
  file("--grad", &o->dout,
       "The gradient by the output: writes those by q, k, v and other inputs "
       "beside the output");
  return [o](const Invocation& call) { return Run(*o, call.host); };
}

}  // namespace

namespace commands {
const Command apply = {"apply", "Run one variant on arrays from NumPy",
                       kExamples, Declare};
}

}  // namespace saccade::bench
