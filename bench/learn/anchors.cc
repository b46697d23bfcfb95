#include "bench/learn/anchors.h"

#include <fmt/format.h>
#include <lzma.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "bench/learn/random.h"

namespace saccade::bench {
namespace {

// Counts by 64-bit key: open addressing, grown to stay at most half full.
class Counter {
 public:
  // A key's count, new keys starting at 0.
  uint32_t& operator[](uint64_t key) {
    if (2 * (used_ + 1) > slots_.size()) Grow();
    Slot& slot = Place(key);
    if (!slot.taken) {
      slot = {key, 0, true};
      ++used_;
    }
    return slot.count;
  }

  uint32_t Count(uint64_t key) const {
    const Slot& slot = const_cast<Counter*>(this)->Place(key);
    return slot.taken ? slot.count : 0;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t count = 0;
    bool taken = false;
  };

  Slot& Place(uint64_t key) {
    const size_t mask = slots_.size() - 1;
    size_t at = Mix(key) & mask;
    while (slots_[at].taken && slots_[at].key != key) at = (at + 1) & mask;
    return slots_[at];
  }

  void Grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.taken) Place(slot.key) = slot;
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(1024);
  size_t used_ = 0;
};

// Statistics of contexts of one length.
struct Order {
  Counter pairs;   // context and next byte
  Counter totals;  // context: how often it was seen
  Counter types;   // context: how many different bytes followed
};

}  // namespace

std::vector<double> NgramBits(std::string_view train, std::string_view test,
                              int order) {
  std::vector<Order> orders(order + 1);
  // The last bytes; a key is a context's bytes and the next byte. Each order
  // has its own tables, so keys of different lengths never meet.
  const auto key = [](uint64_t history, int k) {
    return history & ((uint64_t{1} << 8 * k) - 1);
  };
  uint64_t history = 0;
  for (size_t i = 0; i < train.size(); ++i) {
    const auto byte = static_cast<unsigned char>(train[i]);
    for (int k = 0; k <= order && static_cast<size_t>(k) <= i; ++k) {
      const uint64_t context = key(history, k);
      if (orders[k].pairs[context << 8 | byte]++ == 0) {
        ++orders[k].types[context];
      }
      ++orders[k].totals[context];
    }
    history = history << 8 | byte;
  }
  std::vector<double> bits(order + 1);
  history = 0;
  for (size_t i = 0; i < test.size(); ++i) {
    const auto byte = static_cast<unsigned char>(test[i]);
    double p = 1.0 / 256;
    for (int k = 0; k <= order; ++k) {
      const uint64_t context = key(history, k);
      const bool whole = static_cast<size_t>(k) <= i;
      const double total = whole ? orders[k].totals.Count(context) : 0;
      if (total > 0) {
        const double types = orders[k].types.Count(context);
        const double pair = orders[k].pairs.Count(context << 8 | byte);
        p = (pair + types * p) / (total + types);
      }
      bits[k] -= std::log2(p) / static_cast<double>(test.size());
    }
    history = history << 8 | byte;
  }
  return bits;
}

double XzBits(std::string_view train, std::string_view test) {
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_easy_encoder(&stream, 6, LZMA_CHECK_NONE) != LZMA_OK) return -1;
  std::vector<uint8_t> sink(1 << 16);
  // The bytes that come out until all that went in can be read back.
  const auto feed = [&](std::string_view text) {
    stream.next_in = reinterpret_cast<const uint8_t*>(text.data());
    stream.avail_in = text.size();
    const uint64_t before = stream.total_out;
    lzma_ret result = LZMA_OK;
    while (result == LZMA_OK) {
      stream.next_out = sink.data();
      stream.avail_out = sink.size();
      result = lzma_code(&stream, LZMA_SYNC_FLUSH);
    }
    const bool ok = result == LZMA_STREAM_END;
    return ok ? static_cast<double>(stream.total_out - before) : -1;
  };
  const double learned = feed(train);
  const double bytes = learned < 0 ? -1 : feed(test);
  lzma_end(&stream);
  if (bytes < 0 || test.empty()) return -1;
  return 8 * bytes / static_cast<double>(test.size());
}

std::vector<Anchor> Anchors(std::string_view train, std::string_view test,
                            Exec& exec) {
  constexpr int kOrders = 6;
  std::vector<double> ngrams;
  double xz = -1;
  exec.For(2, [&](int64_t task, int) {
    if (task == 0) xz = XzBits(train, test);
    if (task == 1) ngrams = NgramBits(train, test, kOrders);
  });
  std::vector<Anchor> anchors;
  for (int k = 1; k <= kOrders; ++k) {
    anchors.push_back({fmt::format("order {}", k), ngrams[k]});
  }
  if (xz >= 0) anchors.push_back({"xz", xz});
  return anchors;
}

}  // namespace saccade::bench
