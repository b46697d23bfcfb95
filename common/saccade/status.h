// Errors as values: a code and a sentence, or a result.
#ifndef SACCADE_STATUS_H_
#define SACCADE_STATUS_H_

#include <optional>
#include <string>
#include <utility>

namespace saccade {

enum class Code {
  kOk,
  kInvalid,      // the caller's fault: a shape, knob, name or buffer is wrong
  kUnsupported,  // well-formed, but this variant does not offer it
  kNotFound,     // no such variant, knob, file
  kExhausted,    // does not fit: memory, disk, a decoding state's capacity
  kIo,           // reading or writing failed, or what was read is malformed
};

/// Ok, or what went wrong in one sentence that names the place.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message)
      : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status Invalid(std::string m) { return {Code::kInvalid, std::move(m)}; }
inline Status Unsupported(std::string m) {
  return {Code::kUnsupported, std::move(m)};
}
inline Status NotFound(std::string m) {
  return {Code::kNotFound, std::move(m)};
}
inline Status Exhausted(std::string m) {
  return {Code::kExhausted, std::move(m)};
}
inline Status IoError(std::string m) { return {Code::kIo, std::move(m)}; }

/// A value, or the Status that says why there is none.
///
///   Result<Foo> foo = MakeFoo();
///   if (!foo.ok()) return foo.status();
///   foo->Use();
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace saccade

#endif  // SACCADE_STATUS_H_
