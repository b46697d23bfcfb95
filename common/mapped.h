// Plans that see rows of q and k other than the caller's: turned by position,
// scaled, brought to unit length. Rows are mapped before every pass, and
// gradients mapped back after it.
#ifndef SACCADE_COMMON_MAPPED_H_
#define SACCADE_COMMON_MAPPED_H_

#include <memory>
#include <string>

#include "engine/pattern.h"
#include "saccade/variant.h"

namespace saccade {

/// Positions of a pass's queries and keys.
struct Stretch {
  Interval queries, keys;
};

/// What becomes of each row of q, and of k, by itself.
class RowMap {
 public:
  virtual ~RowMap() = default;

  /// In a word or two, for Plan::Describe.
  virtual std::string Describe() const = 0;
  /// Otherwise k stays as it is.
  virtual bool maps_keys() const = 0;
  /// Elements of a mapped row; of others than `dim` keys are mapped, too.
  virtual int64_t width(int64_t dim) const { return dim; }
  /// Bytes of what Apply prepares for such a stretch, at any positions.
  virtual size_t TableBytes(const Stretch& at) const {
    (void)at;
    return 0;
  }

  /// Writes q and k (of no data when keys are not mapped) from the caller's.
  /// `state`: what Carry made of the tokens before, zeros when there were none.
  virtual void Apply(const Stretch& at, Bytes table, const Inputs& in,
                     Bytes state, const View& q, const View& k,
                     Exec& exec) const = 0;
  /// Brings dq and dk, by the mapped rows, to grad.dq and grad.dk, by the
  /// caller's; the same places where mapped rows are as wide. Writes gradients
  /// of extras that the map reads. `table` is as Apply left it.
  virtual void Return(const Stretch& at, Bytes table, const Inputs& in,
                      const View& dq, const View& dk, const Gradients& grad,
                      Exec& exec) const = 0;

  /// Bytes of what later tokens must know of earlier ones.
  virtual size_t StateBytes() const { return 0; }
  virtual void Carry(const Stretch& at, Bytes table, Bytes state) const {
    (void)at, (void)table, (void)state;
  }
};

/// `inner` on mapped rows. It must have been made for the same resolved
/// problem, but for the width of q and k, and takes no extra that the map
/// reads.
std::unique_ptr<Plan> MakeMappedPlan(const Problem& problem,
                                     std::unique_ptr<const RowMap> map,
                                     std::unique_ptr<Plan> inner);

}  // namespace saccade

#endif  // SACCADE_COMMON_MAPPED_H_
