// OpenBLAS as a peer: scores by sgemm, softmax, values by sgemm.
#include <cblas.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "bench/memory_block.h"
#include "bench/peer.h"
#include "bench/peer_softmax.h"

namespace saccade::bench {
namespace {

// Scores of this many queries are held at once. All of them, as one would
// write it first, is slower: at 4096 keys a head's take 64 MiB. Threads take
// blocks of heads in turn, for sgemm's own threads gain less on such shapes.
constexpr int64_t kRows = 256;

class BlasPeer final : public Peer {
 public:
  using Peer::Peer;

  std::string version() const override {
    // "OpenBLAS 0.3.21 DYNAMIC_ARCH ...".
    const std::string config = openblas_get_config();
    const size_t begin = config.find(' ') + 1;
    return config.substr(begin, config.find(' ', begin) - begin);
  }

  std::string how() const override {
    return fmt::format(
        "in process, its {} kernels: sgemm, softmax over the visible scores of "
        "{} queries at a time, sgemm; {} over heads and blocks of queries",
        openblas_get_corename(), kRows,
        slots_ == 1 ? "1 thread" : fmt::format("{} threads", slots_));
  }

  double ScoreBytes(Pass) const override { return 0; }

  Status Setup(const Problem& problem, Pass pass, PeerTensors* tensors,
               Exec& exec) override {
    if (pass == Pass::kBackward)
      return Unsupported("products are put together for the forward pass only");
    if (problem.dtype != DType::kF32)
      return Unsupported("its matrix products are of f32");
    problem_ = problem;
    tensors_ = tensors;
    exec_ = &exec;
    slots_ = exec.slots();
    stride_ = std::min(kRows, problem.q_len) * problem.kv_len;
    Result<MemoryBlock> scores = MemoryBlock::Make(
        static_cast<size_t>(exec.slots() * stride_) * sizeof(float),
        Pages::kHuge);
    if (!scores.ok()) return scores.status();
    scores_ = std::move(*scores);
    return {};
  }

  Result<double> Run(int64_t runs) override {
    // Threads are the Exec's.
    openblas_set_num_threads(1);
    const Problem& p = problem_;
    const int64_t blocks = (p.q_len + kRows - 1) / kRows;
    const auto start = std::chrono::steady_clock::now();
    for (int64_t r = 0; r < runs; ++r)
      exec_->For(p.batch * p.q_heads * blocks, [&](int64_t task, int slot) {
        // The last rows of a head see most keys: first.
        Block(task / blocks, (blocks - 1 - task % blocks) * kRows, slot);
      });
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    return seconds.count() / static_cast<double>(runs);
  }

  Status Fetch() override { return {}; }
  void Drop() override { scores_ = {}; }

 private:
  // Queries first .. first + kRows - 1 of a head, counted over sequences.
  void Block(int64_t head, int64_t first, int slot) {
    const Problem& p = problem_;
    const int64_t b = head / p.q_heads, h = head % p.q_heads;
    const int64_t kv_head = h / (p.q_heads / p.kv_heads);
    const int64_t rows = std::min(kRows, p.q_len - first);
    const int64_t offset = p.kv_len - p.q_len;
    const bool causal = p.mask != Mask::kNone;
    const auto visible = [&](int64_t row) {
      return causal ? std::clamp<int64_t>(row + offset + 1, 0, p.kv_len)
                    : p.kv_len;
    };
    const int64_t keys = visible(first + rows - 1);
    float* const s =
        reinterpret_cast<float*>(scores_.bytes().data()) + slot * stride_;
    const View &q = (*tensors_)["q"], &k = (*tensors_)["k"],
               &v = (*tensors_)["v"], &out = (*tensors_)["out"];
    float* const o = out.Row<float>(b, h, first);
    float inverse[kRows];
    Gemm(CblasTrans, rows, keys, p.qk_dim, q.Row<float>(b, h, first), p.qk_dim,
         k.Row<float>(b, kv_head, 0), p.qk_dim, s, keys);
    for (int64_t i = 0; i < rows; ++i)
      inverse[i] = SoftmaxRow(s + i * keys, visible(first + i), keys, p.scale);
    Gemm(CblasNoTrans, rows, p.v_dim, keys, s, keys,
         v.Row<float>(b, kv_head, 0), p.v_dim, o, p.v_dim);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t c = 0; c < p.v_dim; ++c) o[i * p.v_dim + c] *= inverse[i];
  }

  // c [m, n] = a [m, k] b, b [k, n] or transposed.
  static void Gemm(CBLAS_TRANSPOSE transpose, int64_t m, int64_t n, int64_t k,
                   const float* a, int64_t lda, const float* b, int64_t ldb,
                   float* c, int64_t ldc) {
    const auto i = [](int64_t x) { return static_cast<blasint>(x); };
    cblas_sgemm(CblasRowMajor, CblasNoTrans, transpose, i(m), i(n), i(k), 1, a,
                i(lda), b, i(ldb), 0, c, i(std::max<int64_t>(ldc, 1)));
  }

  Problem problem_;
  PeerTensors* tensors_ = nullptr;
  Exec* exec_ = nullptr;
  int slots_ = 1;
  MemoryBlock scores_;
  int64_t stride_ = 0;  // of a slot's scores, elements
};

}  // namespace

std::unique_ptr<Peer> MakeBlasPeer(std::string name) {
  return std::make_unique<BlasPeer>(std::move(name));
}

}  // namespace saccade::bench
