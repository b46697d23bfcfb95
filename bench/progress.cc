#include "bench/progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/cli_parse.h"

namespace saccade::bench {

Progress::Progress(std::ostream& err, bool terminal, bool quiet)
    : err_(err), terminal_(terminal && !quiet), quiet_(quiet) {}

Progress::~Progress() { Finish(); }

namespace {

constexpr double kShortest = 0.1;  // seconds of a phase

}  // namespace

void Progress::AddPhase(std::string_view name, double seconds) {
  phases_.push_back({std::string(name), std::max(seconds, kShortest)});
}

Progress::Phase* Progress::Find(std::string_view name) {
  for (Phase& phase : phases_)
    if (phase.name == name) return &phase;
  return nullptr;
}

void Progress::Expect(std::string_view name, double seconds) {
  if (Phase* const phase = Find(name))
    phase->seconds = std::max(seconds, kShortest);
}

void Progress::Say(std::string_view line) {
  if (quiet_) return;
  Clear();
  err_ << "saccade: " << line << "\n" << std::flush;
}

void Progress::Begin(std::string_view name) {
  if (const Phase* const phase = Find(name))
    current_ = static_cast<size_t>(phase - phases_.data());
  done_ = 0;
  phase_start_ = Clock::now();
  last_draw_ = {};
  if (finished_) return;
  if (terminal_) {
    Draw(name);
  } else if (!quiet_) {
    err_ << fmt::format("saccade: {}, at most {:.0f} s of {:.0f} s to go\n",
                        name, phases_.empty() ? 0.0 : phases_[current_].seconds,
                        Remaining())
         << std::flush;
  }
}

void Progress::Update(double done, std::string_view what) {
  done_ = std::clamp(done, 0.0, 1.0);
  if (finished_ || !terminal_) return;
  if (Clock::now() - last_draw_ < std::chrono::milliseconds(100)) return;
  Draw(what);
}

void Progress::Clear() {
  if (!finished_ && terminal_) err_ << "\r\x1b[K" << std::flush;
}

void Progress::Finish() {
  Clear();
  finished_ = true;
}

double Progress::Remaining() const {
  if (phases_.empty()) return 0;
  double later = 0;
  for (size_t i = current_ + 1; i < phases_.size(); ++i)
    later += phases_[i].seconds;
  const double spent =
      std::chrono::duration<double>(Clock::now() - phase_start_).count();
  // The pace of this phase so far counts for as much of it as is done.
  const double planned = (1 - done_) * phases_[current_].seconds;
  const double paced = done_ > 0 ? spent * (1 - done_) / done_ : planned;
  return later + done_ * paced + (1 - done_) * planned;
}

void Progress::Draw(std::string_view what) {
  last_draw_ = Clock::now();
  double all = 0, past = 0;
  for (size_t i = 0; i < phases_.size(); ++i) {
    all += phases_[i].seconds;
    if (i < current_) past += phases_[i].seconds;
  }
  if (!phases_.empty()) past += done_ * phases_[current_].seconds;
  constexpr int kWidth = 16;
  const double share = all > 0 ? past / all : 0;
  const int filled = static_cast<int>(share * kWidth);
  const double gone =
      std::chrono::duration<double>(Clock::now() - start_).count();
  // Cut to 79 columns, so that a line is never wrapped and left behind.
  const std::string line = fmt::format(
      "[{}{}] {:3.0f} %  {} gone, {} left  {}", std::string(filled, '#'),
      std::string(kWidth - filled, '.'), 100 * share, FormatDuration(gone),
      FormatDuration(Remaining()), what);
  err_ << "\r\x1b[K" << line.substr(0, 79) << std::flush;
}

}  // namespace saccade::bench
