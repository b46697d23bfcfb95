#include "bench/peer_tensors.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cassert>
#include <cstring>

namespace saccade::bench {
namespace {

constexpr size_t kPage = 4096;

}  // namespace

Result<PeerTensors> PeerTensors::Make(const Problem& p, Pass pass) {
  PeerTensors t;
  const auto add = [&](std::string_view name, bool result, int64_t heads,
                       int64_t len, int64_t dim) {
    const View view =
        Contiguous<void>(nullptr, p.dtype, p.batch, heads, len, dim);
    t.items_.push_back({name, result, view, t.size_});
    const auto bytes = static_cast<size_t>(view.elements() * SizeOf(p.dtype));
    t.size_ += (bytes + kPage - 1) / kPage * kPage;
  };
  add("q", false, p.q_heads, p.q_len, p.qk_dim);
  add("k", false, p.kv_heads, p.kv_len, p.qk_dim);
  add("v", false, p.kv_heads, p.kv_len, p.v_dim);
  add("out", true, p.q_heads, p.q_len, p.v_dim);
  if (pass == Pass::kBackward) {
    add("dout", false, p.q_heads, p.q_len, p.v_dim);
    add("dq", true, p.q_heads, p.q_len, p.qk_dim);
    add("dk", true, p.kv_heads, p.kv_len, p.qk_dim);
    add("dv", true, p.kv_heads, p.kv_len, p.v_dim);
  }
  const Status exhausted =
      Exhausted(fmt::format("no memory for {} bytes of tensors", t.size_));
  t.file_ = memfd_create("saccade-peer", MFD_CLOEXEC);
  if (t.file_ < 0 || ftruncate(t.file_, static_cast<off_t>(t.size_)) != 0)
    return exhausted;
  void* const data = mmap(nullptr, t.size_, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_POPULATE, t.file_, 0);
  if (data == MAP_FAILED) return exhausted;
  t.data_ = static_cast<std::byte*>(data);
  for (Item& item : t.items_) item.view.data = t.data_ + item.offset;
  return t;
}

PeerTensors::~PeerTensors() {
  if (data_) munmap(data_, size_);
  if (file_ >= 0) close(file_);
}

PeerTensors& PeerTensors::operator=(PeerTensors&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(items_, other.items_);
  return *this;
}

void PeerTensors::PoisonResults() {
  for (const Item& item : items_)
    if (item.result)
      std::memset(
          item.view.data, 0xFF,
          static_cast<size_t>(item.view.elements() * SizeOf(item.view.dtype)));
}

const View& PeerTensors::operator[](std::string_view name) const {
  size_t i = 0;
  while (i + 1 < items_.size() && items_[i].name != name) ++i;
  assert(items_[i].name == name);
  return items_[i].view;
}

std::string PeerTensors::path() const {
  return fmt::format("/proc/{}/fd/{}", getpid(), file_);
}

double ElementAt(const View& view, int64_t i) {
  if (view.dtype == DType::kF32) return static_cast<const float*>(view.data)[i];
  const uint32_t bits = static_cast<const BF16*>(view.data)[i].bits;
  return std::bit_cast<float>(bits << 16);
}

}  // namespace saccade::bench
