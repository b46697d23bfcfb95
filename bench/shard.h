// A comparison dealt out to several sittings, or machines.
#ifndef SACCADE_BENCH_SHARD_H_
#define SACCADE_BENCH_SHARD_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/status.h"

namespace saccade::bench {

/// The `index`th of `of` parts of a comparison, from 1.
struct Shard {
  int index = 1, of = 1;

  bool whole() const { return of == 1; }
  std::string Name() const;  // "1/2"
};

/// From "1/2"; at most 1000 parts. kInvalid says what is wrong.
Result<Shard> ParseShard(std::string_view text);

/// Which of some pieces of work are the shard's. The heaviest are dealt first,
/// each to whoever has least, so that all have about the same; from the weights
/// alone, so that every machine deals alike and each piece is dealt once.
std::vector<bool> Deal(std::span<const double> weights, const Shard& shard);

/// Erases the items that are not the shard's.
template <class Item, class Weight>
void KeepShare(const Shard& shard, const Weight& weight,
               std::vector<Item>* items) {
  if (shard.whole()) return;
  std::vector<double> weights;
  for (const Item& item : *items) weights.push_back(weight(item));
  const std::vector<bool> mine = Deal(weights, shard);
  std::vector<Item> kept;
  for (size_t i = 0; i < items->size(); ++i)
    if (mine[i]) kept.push_back(std::move((*items)[i]));
  *items = std::move(kept);
}

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_SHARD_H_
