// Counts allocations of the calling thread.
#ifndef SACCADE_TESTS_ALLOCATIONS_H_
#define SACCADE_TESTS_ALLOCATIONS_H_

#include <cstdint>

namespace saccade {

/// How often this thread has asked for memory: new, malloc and their kin.
int64_t Allocations();

}  // namespace saccade

#endif  // SACCADE_TESTS_ALLOCATIONS_H_
