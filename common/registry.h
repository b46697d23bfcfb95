// The list of variants, to which plug-ins add.
#ifndef SACCADE_COMMON_REGISTRY_H_
#define SACCADE_COMMON_REGISTRY_H_

#include "saccade/variant.h"

namespace saccade {

/// Adds a variant that lives as long as the process. kInvalid when its name is
/// taken, kExhausted when there are too many. Thread-safe.
Status Register(const Variant* variant);

/// Softmax attention as it is defined, with all that a problem may ask of it.
const Variant& Exact();

}  // namespace saccade

#endif  // SACCADE_COMMON_REGISTRY_H_
