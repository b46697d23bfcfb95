#include "bench/host.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include "reports/text.h"

namespace saccade::bench {

void Say(const Host& host, std::string_view message) {
  constexpr size_t kLongest = 2000;
  fmt::print(host.err, "saccade: {}\n", reports::Clean(message, kLongest));
}

}  // namespace saccade::bench
