// What a shared library shows of itself.
#ifndef SACCADE_EXPORT_H_
#define SACCADE_EXPORT_H_

/// Everything else of the library is hidden.
#define SACCADE_API __attribute__((visibility("default")))

#endif  // SACCADE_EXPORT_H_
