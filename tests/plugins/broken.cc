// Plug-ins that are wrong, each in the way that BROKEN names.
#include <saccade/plugin.h>

#include <cstdlib>

namespace {

saccade::Result<std::unique_ptr<saccade::Plan>> Crash(const saccade::Problem&) {
  std::abort();
}
saccade::Result<std::unique_ptr<saccade::Plan>> Refuse(
    const saccade::Problem&) {
  return saccade::Unsupported("it does nothing");
}
saccade::Cost NoCost(const saccade::Problem&) { return {}; }
void NoOracle(const saccade::Problem&, const saccade::OracleInputs&,
              const saccade::OracleOutputs&) {}

saccade::Variant Broken(std::string_view name, decltype(&Crash) plan) {
  return {.name = name,
          .title = "a broken variant",
          .source = "none",
          .cost = NoCost,
          .plan = plan,
          .oracle = NoOracle};
}

}  // namespace

#if BROKEN == 1  // a factory that crashes
static const saccade::Variant kVariant = Broken("broken.crash", Crash);
#elif BROKEN == 2  // a name that is taken
static const saccade::Variant kVariant = Broken("linear.elu", Refuse);
#elif BROKEN == 3  // no name of a variant
static const saccade::Variant kVariant = Broken("Broken Name", Refuse);
#elif BROKEN == 4  // without an oracle
static const saccade::Variant kVariant = {.name = "broken.oracle",
                                          .title = "a broken variant",
                                          .source = "none",
                                          .cost = NoCost,
                                          .plan = Refuse};
#else              // one that refuses every problem
static const saccade::Variant kVariant = Broken("broken.refusal", Refuse);
#endif

#if BROKEN == 6  // a plug-in of other headers
extern "C" SACCADE_API const char* saccade_plugin_version() { return "9.9.9"; }
extern "C" SACCADE_API uint64_t saccade_plugin_layout() { return 1; }
extern "C" SACCADE_API void saccade_plugin_variants(saccade::TakeVariant,
                                                    void*) {
  std::abort();
}
#elif BROKEN == 7  // no plug-in at all
extern "C" SACCADE_API int nothing() { return 0; }
#else
SACCADE_PLUGIN(&kVariant)
#endif
