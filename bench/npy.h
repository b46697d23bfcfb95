// Arrays in NumPy's .npy files, in and out.
//
// A file is "\x93NUMPY", a version, the length of a header, the header (a
// Python dictionary as text: element type, order, shape) and the elements
// (NumPy Enhancement Proposal 1; numpy.lib.format).
#ifndef SACCADE_BENCH_NPY_H_
#define SACCADE_BENCH_NPY_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/status.h"

namespace saccade::bench {

/// Elements of a file. bf16 has no letter of its own: NumPy writes the type of
/// the ml_dtypes package as 'V2', two opaque bytes, and that is what is read
/// as bf16. Booleans become 0 and 1.
enum class NpyType : uint8_t { kF16, kBF16, kF32, kF64, kBool };

/// "f16", "bf16", "f32", "f64", "bool".
std::string_view NameOf(NpyType type);

/// As NumPy shows a shape: "(3, 4)", "(3,)", "()".
std::string TupleOf(std::span<const int64_t> shape);

struct NpyArray {
  NpyType type = NpyType::kF32;  // in the file
  std::vector<int64_t> shape;    // outermost first; empty: one number
  std::vector<float> values;     // the last index runs fastest
};

/// Ranks and sizes that are read, of versions 1.0 to 3.0.
inline constexpr size_t kMaxNpyRank = 8;
inline constexpr int64_t kMaxNpyBytes = int64_t{1} << 36;

/// The array of a file's bytes, called `name` in messages. Numbers of either
/// byte order become this machine's, f64 is rounded to float, columns-first
/// (Fortran) order becomes rows-first. The shape must account for every byte
/// before memory is asked for. kUnsupported for other types (integers,
/// structures, Python objects), kExhausted when memory is wanting, kIo for
/// what is malformed, with the place.
Result<NpyArray> ParseNpy(std::string_view bytes, std::string_view name);

/// The same of a file, and the errors of record::ReadFile.
Result<NpyArray> ReadNpy(const std::string& path);

/// The bytes of a little-endian, rows-first file of version 1.0; values are
/// rounded to nearest, ties to even. kInvalid unless the shape, of at most
/// kMaxNpyRank sizes, has as many elements as there are values.
Result<std::string> FormatNpy(NpyType type, std::span<const int64_t> shape,
                              std::span<const float> values);

/// Writes such a file, or leaves the old one: kExhausted, kIo.
Status WriteNpy(const std::string& path, NpyType type,
                std::span<const int64_t> shape, std::span<const float> values);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_NPY_H_
