// Which Saccade these headers are of. CMake reads it here.
#ifndef SACCADE_VERSION_H_
#define SACCADE_VERSION_H_

#define SACCADE_VERSION_TEXT "0.1.0"

#endif  // SACCADE_VERSION_H_
