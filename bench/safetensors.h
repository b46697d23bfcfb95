// Named tensors and words about them in a .safetensors file.
//
// A file is the length of a header (8 bytes, little-endian), the header (JSON:
// {"name": {"dtype", "shape", "data_offsets"}, ..., "__metadata__": {words}}),
// and the elements, rows first, little-endian; every byte of them belongs to
// one tensor (the format's README in github.com/huggingface/safetensors).
#ifndef SACCADE_BENCH_SAFETENSORS_H_
#define SACCADE_BENCH_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/status.h"

namespace saccade::bench {

struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first; empty: one number
  std::vector<float> values;   // the last index runs fastest
};

struct Safetensors {
  std::map<std::string, std::string> about;  // "__metadata__"
  std::vector<NamedTensor> tensors;          // as they lie in the file
};

/// What is read: files of F32 tensors up to these sizes. The format itself
/// allows headers of 100 MB; those of known models are a hundredth of that.
inline constexpr int64_t kMaxSafetensorsHeader = int64_t{8} << 20;
inline constexpr int64_t kMaxSafetensorsBytes = int64_t{1} << 36;

/// The tensors of a file's bytes, called `name` in messages. kIo for what is
/// malformed: a length, an offset or a shape that does not fit the file, bytes
/// of no tensor or of two, a name twice, a number that is not finite; it names
/// the tensor. kUnsupported for other types, kExhausted when memory is wanting.
Result<Safetensors> ParseSafetensors(std::string_view bytes,
                                     std::string_view name);

/// The same of a file, and the errors of record::ReadFile.
Result<Safetensors> ReadSafetensors(const std::string& path);

/// The bytes of such a file; elements begin at a multiple of 8. kInvalid for
/// what ParseSafetensors would refuse.
Result<std::string> FormatSafetensors(const Safetensors& file);

/// Writes it, or leaves the old one: kExhausted, kIo.
Status WriteSafetensors(const std::string& path, const Safetensors& file);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_SAFETENSORS_H_
