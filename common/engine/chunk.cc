// The chunk engine's forward pass and decoding: from and to a state.
#include "engine/chunk.h"

#include <algorithm>

#include "engine/chunk_buffers.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/chunk.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "engine/chunk_task-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

template <class T>
class ChunkForwardTask : ChunkTask<T> {
  using Base = ChunkTask<T>;
  using Base::ahead_, Base::b_, Base::call_, Base::e_, Base::kSide, Base::own_,
      Base::r_, Base::spec_;

 public:
  ChunkForwardTask(const ChunkSpec& spec, const ChunkCall& call, int64_t task,
                   const ChunkRoom& room, float* state, float* seen)
      : Base(spec, call, task, room), state_(state), seen_(seen) {}

  void Run() {
    const int64_t len = this->Positions();
    for (int64_t g = 0; g < this->group_; ++g) {
      const int64_t h = this->Head(g);
      if (call_.out.dtype == DType::kF32)
        ClearRows<float>(call_.out, b_, h, this->BlindQueries(), own_);
      else
        ClearRows<BF16>(call_.out, b_, h, this->BlindQueries(), own_);
    }
    const int64_t floats = ChunkStateFloats(spec_, this->share_);
    for (int64_t first = 0; first < len;) {
      if (call_.states != nullptr)
        std::copy_n(state_, floats, Kept(first / r_.tokens));
      if (this->BeginsGroup(first)) std::copy_n(state_, floats, seen_);
      const int64_t n = this->ChunkAt(first);
      this->AskForRows(first + n, r_.tokens, call_.out);
      ahead_.Share(Tiles());
      OneChunk(first, n);
      first += n;
    }
  }

 private:
  float* Kept(int64_t chunk) const {
    const int64_t head = b_ * spec_.kv_heads + this->kv_;
    return call_.states +
           (head * Chunks(spec_, this->Positions()) + chunk) *
               ChunkStateOffset(spec_, this->shares_) +
           ChunkStateOffset(spec_, this->share_);
  }

  // Register tiles of a chunk, about: of its updates and read-outs.
  int64_t Tiles() const {
    const int64_t columns = (e_ + 2 * kProductLanes - 1) / (2 * kProductLanes);
    return columns * (r_.d + r_.tokens * this->group_) / kProductRows;
  }

  void OneChunk(int64_t first, int64_t n) const {
    this->LoadKeys(first, n);
    if (IsDelta(spec_)) {
      this->Neighbours(n);
      this->TakeKnown(state_, n, r_.u);
      this->SolveValues(n, r_.u, r_.u);
    }
    for (int64_t g = 0; this->HasQueries(first, n) && g < this->group_; ++g)
      Read(g, first, n);
    const float* const keys = this->KeysToEnd(n);
    this->Multiply(spec_.qk_dim, n, e_, {keys, 1, r_.d}, r_.u, e_, state_, e_,
                   Into::kAdd, Triangle::kNone,
                   spec_.decay == ChunkDecay::kNone ? nullptr : r_.keep);
  }

  // What the queries of a head read.
  void Read(int64_t g, int64_t first, int64_t n) const {
    this->LoadQueries(g, first, n);
    const bool groups = spec_.group > 0;
    if (!groups) this->Scores(n, r_.p);
    for (int64_t t = 0; t < n; ++t) {
      float* const row = r_.q + t * r_.d;
      if (this->vector())
        MultiplyRows(spec_.scale, row, r_.from + t * r_.d, r_.d, row);
      else
        ScaleRow(this->number() ? spec_.scale * r_.from[t] : spec_.scale, row,
                 r_.d, row);
    }
    this->Multiply(n, spec_.qk_dim, e_, {r_.q, r_.d, 1},
                   groups ? seen_ : state_, e_, r_.o, e_, Into::kSet);
    if (!groups)
      this->Multiply(n, n, e_, {r_.p, kSide, 1}, r_.u, e_, r_.o, e_, Into::kAdd,
                     Triangle::kLower);
    if (call_.out.dtype == DType::kF32)
      StoreChunk<float>(r_.o, e_, call_.out, b_, this->Head(g),
                        first - call_.offset, n, own_);
    else
      StoreChunk<BF16>(r_.o, e_, call_.out, b_, this->Head(g),
                       first - call_.offset, n, own_);
  }

  float *const state_, *const seen_;
};

void AnyChunkForward(const ChunkSpec& spec, const ChunkCall& call, int64_t task,
                     const ChunkRoom& room, float* state, float* seen) {
  if (spec.dtype == DType::kF32)
    ChunkForwardTask<float>(spec, call, task, room, state, seen).Run();
  else
    ChunkForwardTask<BF16>(spec, call, task, room, state, seen).Run();
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {

HWY_EXPORT(AnyChunkForward);

size_t RoomBytes(const ChunkSpec& spec) {
  Arena count;
  ChunkRoom(count, spec);
  return count.used();
}

int64_t StatesOf(const ChunkSpec& spec) {
  return spec.batch * spec.kv_heads * ChunkStateOffset(spec, ChunkShares(spec));
}

}  // namespace

int64_t ChunkSavedFloats(const ChunkSpec& spec, int64_t len) {
  return StatesOf(spec) * Chunks(spec, len);
}

int64_t ChunkStateFloats(const ChunkSpec& spec) {
  return (spec.group > 0 ? 2 : 1) * StatesOf(spec);
}

size_t ChunkForwardScratch(const ChunkSpec& spec, int slots) {
  return static_cast<size_t>(slots) * RoomBytes(spec);
}

void ChunkForward(const ChunkSpec& spec, const ChunkCall& call, float* state,
                  Bytes scratch, Exec& exec) {
  const size_t bytes = RoomBytes(spec);
  const int64_t shares = ChunkShares(spec);
  exec.For(spec.batch * spec.kv_heads * shares, [&](int64_t task, int slot) {
    Arena arena(scratch.subspan(static_cast<size_t>(slot) * bytes, bytes));
    const ChunkRoom room(arena, spec);
    float *own = room.state, *seen = room.seen;
    if (state != nullptr) {
      own = state + task / shares * ChunkStateOffset(spec, shares) +
            ChunkStateOffset(spec, task % shares);
      seen = own + StatesOf(spec);
    } else {
      std::fill_n(own, ChunkStateFloats(spec, task % shares), 0.0f);
    }
    HWY_DYNAMIC_DISPATCH(AnyChunkForward)(spec, call, task, room, own, seen);
  });
}

}  // namespace saccade
#endif  // HWY_ONCE
