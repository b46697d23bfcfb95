// Variants from outside: a shared object built against these headers, loaded at
// run time, and then like any other variant.
//
//   // mean.cc, linked to nothing of Saccade's: `g++ -shared -fPIC ...`
//   #include <saccade/plugin.h>
//   static const saccade::Variant kMean = {.name = "pool.mean", ...};
//   SACCADE_PLUGIN(&kMean)
//
//   // whoever uses it
//   saccade::Status status = saccade::LoadPlugin("./mean.so");
#ifndef SACCADE_PLUGIN_H_
#define SACCADE_PLUGIN_H_

#include <cstdint>
#include <string>

#include "saccade/export.h"
#include "saccade/variant.h"
#include "saccade/version.h"

namespace saccade {

/// Takes a plug-in's variants one by one.
using TakeVariant = void (*)(void* to, const Variant* variant);

/// Equal where a plug-in and a library agree on the structures that they hand
/// to each other.
constexpr uint64_t PluginLayout() {
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint64_t size :
       {sizeof(Variant), sizeof(Traits), sizeof(Layer), sizeof(Knob),
        sizeof(ExtraInput), sizeof(Problem), sizeof(Plan), sizeof(Inputs),
        sizeof(Outputs), sizeof(Upstream), sizeof(Gradients), sizeof(Cost),
        sizeof(Footprint), sizeof(Exec), sizeof(Status), sizeof(View),
        sizeof(MaskView), sizeof(Sequences), sizeof(OracleInputs)})
    hash = (hash ^ size) * 0x100000001b3;
  return hash;
}

/// Loads a plug-in and adds its variants after those that are there: Variants()
/// has them then, and spans of it that were taken before stay as they were. The
/// plug-in is first tried in a child process, so that one that crashes does no
/// harm. It stays loaded. Thread-safe; a file that was loaded before is
/// kInvalid, as its variants' names are taken.
///
/// kNotFound: no such file. kInvalid: not a plug-in, built against another
/// version, a variant that is incomplete or whose name is taken, a crash.
SACCADE_API Status LoadPlugin(const std::string& path);

}  // namespace saccade

/// Makes a shared object a plug-in: pointers to its variants.
#define SACCADE_PLUGIN(...)                                                  \
  extern "C" SACCADE_API const char* saccade_plugin_version() {              \
    return SACCADE_VERSION_TEXT;                                             \
  }                                                                          \
  extern "C" SACCADE_API uint64_t saccade_plugin_layout() {                  \
    return saccade::PluginLayout();                                          \
  }                                                                          \
  extern "C" SACCADE_API void saccade_plugin_variants(                       \
      saccade::TakeVariant take, void* to) {                                 \
    for (const saccade::Variant* variant : {__VA_ARGS__}) take(to, variant); \
  }

#endif  // SACCADE_PLUGIN_H_
