// `saccade apply`, of every variant, against the float64 oracles. What it does
// with files of every type and order is in apply_test.py.
#include <doctest/doctest.h>

#include <cmath>

#include "bench/npy.h"
#include "bench/verify_judge.h"
#include "bench/verify_reference.h"
#include "tests/folder.h"
#include "tests/program.h"

namespace saccade::bench {
namespace {

// Odd shapes that nobody chose; as many keys as queries where the variant
// wants that, and the last query sees all keys otherwise.
Problem RandomProblem(const Variant& v, Rng& rng) {
  Problem p;
  p.batch = 1 + rng.Below(2);
  p.kv_heads = 1 + rng.Below(3);
  p.q_heads = p.kv_heads * (v.traits.grouped_heads ? 1 + rng.Below(3) : 1);
  p.q_len = p.kv_len = 1 + rng.Below(40);
  if (v.traits.cross) p.kv_len += rng.Below(20);
  p.qk_dim = 2 * (1 + rng.Below(20));  // even, for positions that turn pairs
  p.v_dim = 1 + rng.Below(40);
  p.mask = v.traits.causal ? Mask::kCausal : Mask::kNone;
  return p;
}

std::string WriteArray(const Folder& folder, const std::string& name,
                       const std::vector<double>& values,
                       const std::vector<int64_t>& shape) {
  const std::vector<float> floats(values.begin(), values.end());
  const std::string path = folder / (name + ".npy");
  REQUIRE(WriteNpy(path, NpyType::kF32, shape, floats).ok());
  return path;
}

std::vector<float> ReadArray(const std::string& path, size_t size) {
  const Result<NpyArray> array = ReadNpy(path);
  REQUIRE_MESSAGE(array.ok(), array.status().message());
  REQUIRE(array->values.size() == size);
  return array->values;
}

TEST_CASE("apply gives what the oracle gives, of every variant") {
  Rng rng(11);
  for (const Variant* v : Variants()) {
    for (int round = 0; round < 3; ++round) {
      CheckCase c{.variant = v, .problem = RandomProblem(*v, rng)};
      // Some refuse the smallest: of a single value a norm leaves nothing.
      while (!MakePlan(*v, c.problem).ok()) c.problem = RandomProblem(*v, rng);
      c.pass = Pass::kBackward;
      c.seed = rng.Next();
      const Result<Problem> resolved = Resolve(*v, c.problem);
      REQUIRE_MESSAGE(resolved.ok(), resolved.status().message());
      const Problem& p = *resolved;
      Data data = MakeData(c, p);
      // What is learned is as before training.
      const std::vector<float> start = LearnedStart(*v, p);
      data.bias.assign(start.begin(), start.end());
      Reference ref = ReferenceOn(*v, p, std::move(data));
      const int tensors = kFirstExtra + static_cast<int>(v->inputs.size());
      AddDerivatives(c, tensors, &ref);

      const Folder folder;
      std::vector<std::string> line = {
          "apply",
          std::string(v->name),
          "-o",
          folder / "out.npy",
          "--grad",
          WriteArray(folder, "dout", ref.data.dout,
                     {p.batch, p.q_heads, p.q_len, p.v_dim})};
      if (p.mask == Mask::kCausal) line.push_back("--causal");
      std::vector<std::string> names = {"q", "k", "v"};
      for (const ExtraInput& extra : v->inputs) names.emplace_back(extra.name);
      for (int n = 0; n < tensors; ++n) {
        const ExtraShape s = TensorShape(*v, p, n);
        const std::string path =
            WriteArray(folder, names[n], TensorOf(ref.data, n),
                       {p.batch, s.heads, s.len, s.dim});
        if (n < kFirstExtra) {
          line.insert(line.end(), {"--" + names[n], path});
        } else {
          line.insert(line.end(), {"--input", names[n] + "=" + path});
        }
      }
      const Answer a = Saccade(line);
      REQUIRE_MESSAGE(a.code == kExitOk, a.err);

      Judge judge(v->kappa);
      const auto out = ReadArray(folder / "out.npy", ref.out.size());
      for (size_t n = 0; n < out.size(); ++n)
        judge.Check([&] { return fmt::format("out {}", n); }, out[n],
                    ref.out[n], ref.size[n], 0);
      std::vector<std::vector<float>> gradients;
      for (int n = 0; n < tensors; ++n)
        gradients.push_back(ReadArray(folder / ("out.d" + names[n] + ".npy"),
                                      TensorOf(ref.data, n).size()));
      REQUIRE(!ref.derivatives.empty());
      for (const Reference::Derivative& d : ref.derivatives)
        if (d.tensor < tensors)
          judge.Check(
              [&] { return fmt::format("d{} {}", names[d.tensor], d.index); },
              gradients[d.tensor][d.index], d.want, d.size, d.noise);
      CHECK_MESSAGE(judge.result().kind == CheckResult::Kind::kOk, v->name,
                    ": ", judge.result().what);
    }
  }
}

TEST_CASE("apply's weights, times the values, are its output") {
  Rng rng(12);
  for (const Variant* v : Variants()) {
    // Gates multiply what weights make.
    if (!v->inputs.empty()) continue;
    const Problem p = RandomProblem(*v, rng);
    const Folder folder;
    const auto draw = [&](const std::string& name, int64_t heads, int64_t len,
                          int64_t dim) {
      std::vector<double> x(p.batch * heads * len * dim);
      for (double& each : x) each = rng.Normal();
      return WriteArray(folder, name, x, {p.batch, heads, len, dim});
    };
    std::vector<std::string> line = {
        "apply",     std::string(v->name),
        "--q",       draw("q", p.q_heads, p.q_len, p.qk_dim),
        "--k",       draw("k", p.kv_heads, p.kv_len, p.qk_dim),
        "--v",       draw("v", p.kv_heads, p.kv_len, p.v_dim),
        "-o",        folder / "out.npy",
        "--weights", folder / "w.npy"};
    if (p.mask == Mask::kCausal) line.push_back("--causal");
    const Answer a = Saccade(line);
    REQUIRE_MESSAGE(a.code == kExitOk, a.err);
    const int64_t rows = p.batch * p.q_heads * p.q_len;
    const auto w = ReadArray(folder / "w.npy", rows * p.kv_len);
    const auto out = ReadArray(folder / "out.npy", rows * p.v_dim);
    const auto values =
        ReadArray(folder / "v.npy", p.batch * p.kv_heads * p.kv_len * p.v_dim);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t head = r / p.q_len / (p.q_heads / p.kv_heads);
      for (int64_t c = 0; c < p.v_dim; ++c) {
        double sum = 0, size = 0;
        for (int64_t j = 0; j < p.kv_len; ++j) {
          const double term = static_cast<double>(w[r * p.kv_len + j]) *
                              values[(head * p.kv_len + j) * p.v_dim + c];
          sum += term;
          size += std::abs(term);
        }
        REQUIRE(std::abs(sum - out[r * p.v_dim + c]) <= 1e-5 * size + 1e-30);
      }
    }
  }
}

TEST_CASE("apply reads its arrays before it computes, and says which is bad") {
  const Folder folder;
  const std::string good = WriteArray(folder, "good", {1, 2, 3, 4}, {2, 2});
  const std::string bad = folder.Write("bad.npy", "no array");
  for (const char* which : {"--q", "--k", "--v"}) {
    std::vector<std::string> line = {"apply", "softmax.flash", "-o",
                                     folder / "out.npy"};
    for (const char* one : {"--q", "--k", "--v"})
      line.insert(line.end(), {one, std::string(one) == which ? bad : good});
    const Answer a = Saccade(line);
    CHECK(a.code == kExitUsage);
    CHECK(OneLine(a.err));
    CHECK(a.err.find("bad.npy: not a .npy file") != std::string::npos);
  }
  const Answer missing = Saccade({"apply", "softmax.flash", "--q", good});
  CHECK(missing.code == kExitUsage);
  CHECK(OneLine(missing.err));
}

}  // namespace
}  // namespace saccade::bench
