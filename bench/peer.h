// Somebody else's implementation of attention, to be timed beside ours.
#ifndef SACCADE_BENCH_PEER_H_
#define SACCADE_BENCH_PEER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/interrupt.h"
#include "bench/peer_tensors.h"
#include "bench/verify.h"
#include "bench/workload.h"

namespace saccade::bench {

/// One row of a comparison. A peer computes what one variant does: the list's
/// first, the baseline, softmax attention, unless it names another. It holds
/// one problem at a time.
class Peer {
 public:
  explicit Peer(std::string name) : name_(std::move(name)) {}
  virtual ~Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  const std::string& name() const { return name_; }
  /// "2.13.0"; empty when it was never heard of.
  virtual std::string version() const = 0;
  /// The name of the variant whose function it computes; empty: the baseline.
  virtual std::string computes() const { return {}; }
  /// Which operation runs, with which threads: a sentence. After Setup.
  virtual std::string how() const = 0;
  /// Bytes that the pass holds for each score, q_len * kv_len in every head:
  /// 0 for one that never holds them all.
  virtual double ScoreBytes(Pass pass) const = 0;

  /// Takes a resolved problem and its tensors, which must stay until Drop, and
  /// does what is not timed. `exec` has the threads. kUnsupported with the
  /// reason, kExhausted, or kIo when the peer failed.
  virtual Status Setup(const Problem& problem, Pass pass, PeerTensors* tensors,
                       Exec& exec) = 0;
  /// Runs the pass so many times; seconds of one, by a monotonic clock.
  virtual Result<double> Run(int64_t runs) = 0;
  /// Brings the last run's results into the tensors.
  virtual Status Fetch() = 0;
  /// Lets go of the problem.
  virtual void Drop() = 0;

  /// What the check of gradients at a small length came to, by problem.
  std::map<std::string, CheckResult>& gates() { return gates_; }

 private:
  const std::string name_;
  std::map<std::string, CheckResult> gates_;
};

/// Where peers are found that run in processes of their own.
struct PeerPlaces {
  std::string scripts;   // folder with the programs that drive them
  std::string python;    // runs those; has the peers' packages
  double patience = 90;  // seconds without an answer; then it has hung
};

/// As built: bench/peers of the source, and the folder that its setup.sh fills.
PeerPlaces DefaultPeerPlaces();

/// Of all of them, in the order of reports.
std::vector<std::string_view> PeerNames();

/// Rows of "all" or of a list such as "torch,openblas"; a name stands for its
/// variants too (torch.math). kNotFound with the nearest names.
Result<std::vector<std::string>> ParsePeers(std::string_view text);

/// A row's peer, or why there is none. `missing`: it is not installed, and the
/// status says which command does that.
struct OpenedPeer {
  std::string name;
  std::unique_ptr<Peer> peer;  // null when not ok
  Status status;
};

/// Starts peers. `stop`, which may be null, ends waiting.
std::vector<OpenedPeer> OpenPeers(const std::vector<std::string>& names,
                                  const PeerPlaces& places,
                                  const StopFlag* stop);

/// OpenBLAS in this process: two matrix products around our softmax.
std::unique_ptr<Peer> MakeBlasPeer(std::string name);

/// A child process: `python` with `script` and `argument`; see
/// bench/peers/README.md for what is said. kNotFound when the child says that
/// something is not installed.
Result<std::unique_ptr<Peer>> StartPeerProcess(std::string name,
                                               const std::string& script,
                                               const std::string& argument,
                                               const PeerPlaces& places,
                                               const StopFlag* stop);

/// Of a run's specs, the first whose function a peer computes, which is without
/// a position scheme; for the baseline's peers the baseline, measured or not.
/// kUnsupported when there is none.
Result<std::string> SpecForPeer(const Peer& peer,
                                const std::vector<std::string>& specs);

/// The cell of a peer: planned as that of cell.spec, which it computes, with
/// the peer's name in place of the spec. As PlanCell.
Result<PlannedCell> PlanPeerCell(const CellSpec& cell, Peer* peer);

/// Whether a peer offers a cell's pass, storage, mask and heads at all, asked
/// at a small length. Anything but kUnsupported is left to the cell itself.
Status PeerOffers(Peer& peer, const CellSpec& cell, Exec& exec);

/// A peer's pass over one cell, made ready.
class PeerRun {
 public:
  /// Fills tensors with the same numbers that Workload takes for this seed,
  /// and sets the peer up.
  static Result<std::unique_ptr<PeerRun>> Make(const PlannedCell* planned,
                                               uint64_t seed, Exec& exec);
  ~PeerRun();

  Result<double> Run(int64_t runs) { return peer_.Run(runs); }

  /// Holds the results of the last run against the oracle: all rows of out, or
  /// as many as a tenth of a second allows. For backward, gradients of such
  /// rows of q here, and those of q, k and v at a small length, where the
  /// oracle's differences are to be had. Without a mask, of others than the
  /// baseline, the rows are the last. kRefused when it could not be run.
  CheckResult Check(Exec& exec);

  /// Whether the last run wrote only finite numbers.
  bool Finite();

 private:
  PeerRun(const PlannedCell& planned, PeerTensors tensors)
      : planned_(planned), peer_(*planned.peer), tensors_(std::move(tensors)) {}
  CheckResult Gate(Exec& exec);

  const PlannedCell& planned_;
  Peer& peer_;
  PeerTensors tensors_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PEER_H_
