// Which peers there are, and what a cell of one is.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "bench/cli_parse.h"
#include "bench/peer.h"
#include "nearest.h"

namespace saccade::bench {
namespace {

struct Row {
  std::string_view name;
  std::string_view script;  // empty: in this process
  std::string_view argument;
};

// In the order of reports. What stands before a dot is what is installed.
constexpr Row kRows[] = {
    {"openblas", "", ""},
    {"torch", "peer_torch.py", "fused"},
    {"torch.math", "peer_torch.py", "math"},
    {"torch.flex.window", "peer_torch_flex.py", "window"},
    {"torch.flex.alibi", "peer_torch_flex.py", "alibi"},
    {"onnxruntime", "peer_onnxruntime.py", "contrib"},
    {"onnxruntime.attention", "peer_onnxruntime.py", "attention"},
    {"onnxruntime.linear", "peer_onnxruntime.py", "linear"},
    {"ggml", "peer_ggml.py", ""},
};

std::string_view Package(std::string_view name) {
  return name.substr(0, name.find('.'));
}

Result<std::unique_ptr<Peer>> Open(const Row& row, const PeerPlaces& places,
                                   const StopFlag* stop) {
  std::string name(row.name);
  if (row.script.empty()) return MakeBlasPeer(std::move(name));
  Result<std::unique_ptr<Peer>> peer =
      StartPeerProcess(std::move(name), std::string(row.script),
                       std::string(row.argument), places, stop);
  if (peer.ok()) return peer;
  return Unsupported(fmt::format("{}; bash bench/peers/setup.sh {} installs it",
                                 peer.status().message(), Package(row.name)));
}

}  // namespace

PeerPlaces DefaultPeerPlaces() {
  return {SACCADE_PEER_SCRIPTS, SACCADE_PEER_PYTHON};
}

std::vector<std::string_view> PeerNames() {
  std::vector<std::string_view> names;
  for (const Row& row : kRows) names.push_back(row.name);
  return names;
}

Result<std::vector<std::string>> ParsePeers(std::string_view text) {
  std::vector<std::string_view> known = PeerNames();
  known.push_back("all");
  const std::vector<std::string> wanted = Split(text, ',');
  std::vector<std::string> names;
  for (const std::string& name : wanted)
    if (std::find(known.begin(), known.end(), name) == known.end())
      return NotFound(fmt::format("there is no peer '{}'{}; there are {}", name,
                                  DidYouMean(name, known),
                                  fmt::join(known, ", ")));
  for (const Row& row : kRows)
    for (const std::string& name : wanted)
      if (name == "all" || name == row.name || name == Package(row.name)) {
        names.emplace_back(row.name);
        break;
      }
  if (names.empty()) return Invalid("an empty list");
  return names;
}

std::vector<OpenedPeer> OpenPeers(const std::vector<std::string>& names,
                                  const PeerPlaces& places,
                                  const StopFlag* stop) {
  std::vector<OpenedPeer> opened;
  for (const Row& row : kRows) {
    if (std::find(names.begin(), names.end(), row.name) == names.end())
      continue;
    OpenedPeer& one = opened.emplace_back();
    one.name = row.name;
    Result<std::unique_ptr<Peer>> peer = Open(row, places, stop);
    if (peer.ok()) {
      one.peer = std::move(*peer);
    } else {
      one.status = peer.status();
    }
  }
  return opened;
}

Result<std::string> SpecForPeer(const Peer& peer,
                                const std::vector<std::string>& specs) {
  const std::string name = peer.computes();
  if (name.empty()) return std::string(Variants().front()->name);
  for (const std::string& text : specs) {
    const Result<Spec> spec = ParseSpec(text);
    if (spec.ok() && spec->variant->name == name && spec->positions.empty())
      return text;
  }
  return Unsupported(
      fmt::format("it computes {}, which is not in this run", name));
}

Result<PlannedCell> PlanPeerCell(const CellSpec& cell, Peer* peer) {
  Result<PlannedCell> planned = PlanCell(cell);
  if (!planned.ok()) return planned;
  planned->peer = peer;
  planned->cell.spec = peer->name();
  return planned;
}

}  // namespace saccade::bench
