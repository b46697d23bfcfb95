// A transformer that goes on with a text, on a model of `saccade train`:
//
//   decoder MODEL.safetensors PROMPT [COUNT [SPEC]]
//
// SPEC reads the model through another attention than it was trained with. Of
// each token: x = its embedding; for each layer x += W_out attend(W_q, W_k, W_v
// norm(x)) and x += W_out silu(W_in norm(x)); then the likeliest symbol by
// norm(x) times the embeddings. Its Python twin is decoder.py.
#include <saccade/attention.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

using Vector = std::vector<float>;
using Clock = std::chrono::steady_clock;
constexpr int kBegin = 256;  // the symbol that stands before all bytes

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "decoder: %s\n", what.c_str());
  std::exit(1);
}

// The file's tensors by name, and its metadata. A header's length, JSON, and
// the numbers: nothing of it is believed before it is checked.
struct Model {
  explicit Model(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
    uint64_t length = 0;
    if (bytes.size() < sizeof length) Fail(path + ": not a model");
    std::memcpy(&length, bytes.data(), sizeof length);
    if (length > bytes.size() - sizeof length) Fail(path + ": cut short");
    header = nlohmann::json::parse(bytes.begin() + sizeof length,
                                   bytes.begin() + sizeof length + length,
                                   nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) Fail(path + ": its header is no JSON");
    data = sizeof length + length;
  }

  std::string About(const char* key) const {
    const auto about = header.value("__metadata__", nlohmann::json::object());
    if (!about.contains(key) || !about[key].is_string())
      Fail(std::string("the model does not say its ") + key);
    return about[key];
  }

  // Rows of that many numbers: as many rows as said, or any for 0.
  Vector Tensor(const std::string& name, size_t cols, size_t rows = 0) const {
    const auto found = header.find(name);
    if (found == header.end()) Fail("the model has no tensor " + name);
    const auto at = found->value("data_offsets", std::vector<uint64_t>());
    const size_t row = cols * sizeof(float);
    if (found->value("dtype", "") != "F32" || at.size() != 2 ||
        at[1] > bytes.size() - data || at[0] >= at[1] ||
        (at[1] - at[0]) % row != 0 || (rows && at[1] - at[0] != rows * row))
      Fail("the tensor " + name + " does not fit the model");
    Vector values((at[1] - at[0]) / sizeof(float));
    std::memcpy(values.data(), &bytes[data + at[0]], at[1] - at[0]);
    return values;
  }

  std::vector<char> bytes;
  nlohmann::json header;
  size_t data = 0;  // where the tensors begin
};

// w [rows, x.size()] times x.
Vector Times(const Vector& w, const Vector& x) {
  Vector y(w.size() / x.size());
  for (size_t r = 0; r < y.size(); ++r)
    for (size_t c = 0; c < x.size(); ++c) y[r] += w[r * x.size() + c] * x[c];
  return y;
}

void Add(Vector& x, const Vector& y) {
  for (size_t c = 0; c < x.size(); ++c) x[c] += y[c];
}

Vector Norm(const Vector& x, const Vector& gain) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * v;
  const double inverse =
      1 / std::sqrt(sum / static_cast<double>(x.size()) + 1e-6);
  Vector y(x.size());
  for (size_t c = 0; c < x.size(); ++c)
    y[c] = gain[c] * static_cast<float>(x[c] * inverse);
  return y;
}

struct Layer {
  Vector gain, q, k, v, out, mlp_gain, mlp_in, mlp_out;
  saccade::Attention attention;  // with the state of the sequence
};

class Decoder {
 public:
  Decoder(const Model& m, const std::string& spec, int64_t capacity)
      : heads_(std::stoll(m.About("heads"))),
        width_(std::stoll(m.About("width"))) {
    const auto d = static_cast<size_t>(width_);
    if (heads_ < 1 || width_ < heads_) Fail("no model has such heads");
    embedding_ = m.Tensor("embedding", d, kBegin + 1);
    gain_ = m.Tensor("gain", d, 1);
    const saccade::Problem problem = {.q_heads = heads_,
                                      .kv_heads = heads_,
                                      .q_len = 1,
                                      .kv_len = capacity,
                                      .qk_dim = width_ / heads_,
                                      .v_dim = width_ / heads_,
                                      .mask = saccade::Mask::kCausal};
    for (int n = 0; n < std::stoi(m.About("layers")); ++n) {
      auto attention = saccade::Attention::Make(spec, problem, /*threads=*/1);
      if (!attention.ok()) Fail(attention.status().message());
      const std::string a = "attention" + std::to_string(n) + ".";
      const std::string mlp = "mlp" + std::to_string(n) + ".";
      layers_.push_back({m.Tensor(a + "gain", d, 1), m.Tensor(a + "q", d, d),
                         m.Tensor(a + "k", d, d), m.Tensor(a + "v", d, d),
                         m.Tensor(a + "out", d, d),
                         m.Tensor(mlp + "gain", d, 1), m.Tensor(mlp + "in", d),
                         m.Tensor(mlp + "out", d), std::move(*attention)});
      if (layers_[n].mlp_in.size() != layers_[n].mlp_out.size())
        Fail("the tensors of " + mlp + " do not fit each other");
    }
  }

  // Appends a token; the logits of what follows it.
  Vector Extend(int token) {
    Vector x(&embedding_[token * width_], &embedding_[(token + 1) * width_]);
    for (Layer& layer : layers_) {
      const Vector h = Norm(x, layer.gain);
      Vector q = Times(layer.q, h), k = Times(layer.k, h),
             v = Times(layer.v, h), out(x.size());
      const auto row = [this](Vector& of) {  // [1, heads, 1 token, width]
        return saccade::Contiguous<void>(of.data(), saccade::DType::kF32, 1,
                                         heads_, 1, width_ / heads_);
      };
      const saccade::Status status =
          layer.attention.Extend({row(q), row(k), row(v)}, {row(out)});
      if (!status.ok()) Fail(status.message());
      Add(x, Times(layer.out, out));
      Vector mid = Times(layer.mlp_in, Norm(x, layer.mlp_gain));
      for (float& m : mid) m /= 1 + std::exp(-m);  // SiLU
      Add(x, Times(layer.mlp_out, mid));
    }
    return Times(embedding_, Norm(x, gain_));
  }

  size_t StateBytes() const {
    size_t bytes = 0;
    for (const Layer& l : layers_) bytes += l.attention.plan().Memory(1).state;
    return bytes;
  }

 private:
  int64_t heads_, width_;
  Vector embedding_, gain_;
  std::vector<Layer> layers_;
};

int Run(int argc, char** argv) {
  if (argc < 3) Fail("decoder MODEL.safetensors PROMPT [COUNT [SPEC]]");
  const Model model(argv[1]);
  const std::string prompt = argv[2];
  const int count = argc > 3 ? std::atoi(argv[3]) : 200;
  const std::string spec = argc > 4 ? argv[4] : model.About("spec");
  Decoder decoder(model, spec, static_cast<int64_t>(prompt.size()) + count + 1);
  Vector logits = decoder.Extend(kBegin);
  for (const char c : prompt) logits = decoder.Extend(static_cast<uint8_t>(c));
  std::printf("%s", prompt.c_str());
  const auto start = Clock::now();
  for (int n = 0; n < count; ++n) {
    const auto best = std::max_element(logits.begin(), logits.begin() + kBegin);
    std::putchar(static_cast<int>(best - logits.begin()));
    std::fflush(stdout);
    logits = decoder.Extend(static_cast<int>(best - logits.begin()));
  }
  const std::chrono::duration<double> took = Clock::now() - start;
  std::putchar('\n');
  std::fprintf(stderr, "%s: %.0f tokens a second, %zu bytes of state\n",
               spec.c_str(), count / took.count(), decoder.StateBytes());
  return 0;
}

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& e) {  // of the JSON, or for want of memory
    Fail(e.what());
  }
}
