// What every plan that decodes asks of its state.
#ifndef SACCADE_COMMON_ENGINE_EXTEND_H_
#define SACCADE_COMMON_ENGINE_EXTEND_H_

#include <cstdint>
#include <string>

#include "saccade/status.h"

namespace saccade {

/// kExhausted when `fresh` tokens do not fit behind `held` of `capacity`.
inline Status CheckRoom(int64_t held, int64_t fresh, int64_t capacity) {
  if (fresh <= capacity - held) return {};
  return Exhausted("Extend: " + std::to_string(held) + " + " +
                   std::to_string(fresh) + " tokens are more than the " +
                   std::to_string(capacity) + " that state can hold");
}

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_EXTEND_H_
