#include "bench/learn/saved.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "bench/safetensors.h"
#include "position.h"

namespace saccade::bench {
namespace {

constexpr char kSpec[] = "spec", kShift[] = "shift";

// The numbers of ModelOptions, by the keys that metadata has them under.
struct Number {
  const char* key;
  int64_t ModelOptions::*member;
};
constexpr Number kNumbers[] = {{"width", &ModelOptions::width},
                               {"layers", &ModelOptions::layers},
                               {"heads", &ModelOptions::heads},
                               {"symbols", &ModelOptions::symbols},
                               {"train_len", &ModelOptions::train_len}};

std::vector<int64_t> ShapeOf(const Parameter& t) {
  if (t.rows == 1) return {t.cols};
  return {t.rows, t.cols};
}

Result<ModelOptions> OptionsOf(const Safetensors& file,
                               const std::string& path) {
  const auto wrong = [&](std::string_view key) {
    return Invalid(fmt::format(
        "{}: not a model of this program: its metadata has no good '{}'", path,
        key));
  };
  ModelOptions options;
  const auto spec = file.about.find(kSpec);
  if (spec == file.about.end()) return wrong(kSpec);
  options.spec = spec->second;
  for (const Number& number : kNumbers) {
    const auto found = file.about.find(number.key);
    if (found == file.about.end()) return wrong(number.key);
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(
        text.data(), text.data() + text.size(), options.*number.member);
    if (error != std::errc() || end != text.data() + text.size())
      return wrong(number.key);
  }
  options.shift = file.about.contains(kShift);
  return options;
}

// A model is made before its tensors are looked at, so its size must be known
// not to be far beyond that of the file: a layer has twelve squares of the
// width; symbols, and learned positions, have a row each.
bool MayHold(const Safetensors& file, const ModelOptions& o) {
  constexpr int64_t kMost = int64_t{1} << 20;
  for (const Number& number : kNumbers)
    if (o.*number.member < 1 || o.*number.member > kMost) return false;
  double elements = 0;
  for (const NamedTensor& t : file.tensors)
    elements += static_cast<double>(t.values.size());
  const Result<Spec> spec = ParseSpec(o.spec);
  const bool learned = spec.ok() && FindIn(spec->positions, "learned");
  const auto width = static_cast<double>(o.width);
  const auto rows =
      static_cast<double>(o.symbols + (learned ? o.train_len : 0));
  return width * (width * static_cast<double>(o.layers) + rows) <= elements;
}

Status Fill(const Safetensors& file, const std::string& path, Model* model) {
  Parameters& parameters = model->parameters();
  for (const Parameter& t : parameters.tensors()) {
    const auto found =
        std::find_if(file.tensors.begin(), file.tensors.end(),
                     [&](const NamedTensor& x) { return x.name == t.name; });
    const std::vector<int64_t> want = ShapeOf(t);
    if (found == file.tensors.end())
      return Invalid(fmt::format(
          "{}: {} wants a tensor '{}' [{}], which the "
          "file does not have",
          path, model->options().spec, t.name, fmt::join(want, ", ")));
    if (found->shape != want)
      return Invalid(
          fmt::format("{}: {} wants the tensor '{}' to be [{}], and "
                      "it is [{}]",
                      path, model->options().spec, t.name,
                      fmt::join(want, ", "), fmt::join(found->shape, ", ")));
    std::copy(found->values.begin(), found->values.end(),
              parameters.value(t.at));
  }
  return {};
}

}  // namespace

Status SaveModel(const std::string& path, const Model& model,
                 const std::map<std::string, std::string>& about) {
  const ModelOptions& options = model.options();
  Safetensors file;
  file.about = about;
  file.about[kSpec] = options.spec;
  for (const Number& number : kNumbers)
    file.about[number.key] = fmt::format("{}", options.*number.member);
  if (options.shift) file.about[kShift] = "1";
  const Parameters& parameters = model.parameters();
  for (const Parameter& t : parameters.tensors()) {
    const float* const values = parameters.value(t.at);
    file.tensors.push_back({t.name, ShapeOf(t), {values, values + t.size()}});
  }
  const Status status = WriteSafetensors(path, file);
  if (status.ok() || status.code() != Code::kInvalid) return status;
  return Invalid(fmt::format("{}: {}", path, status.message()));
}

Result<Model> LoadModel(const std::string& path, std::string_view spec) {
  const Result<Safetensors> file = ReadSafetensors(path);
  if (!file.ok()) return file.status();
  Result<ModelOptions> options = OptionsOf(*file, path);
  if (!options.ok()) return options.status();
  const bool other = !spec.empty() && spec != options->spec;
  if (!spec.empty()) options->spec = spec;
  if (!MayHold(*file, *options))
    return Invalid(fmt::format(
        "{}: its tensors are too few for a model of width {}, {} layers and {} "
        "symbols",
        path, options->width, options->layers, options->symbols));
  Result<Model> model = Model::Make(*options);
  if (!model.ok())
    return Status(model.status().code(),
                  fmt::format("{}: {}", path, model.status().message()));
  if (Status s = Fill(*file, path, &*model); !s.ok()) return s;
  // Another attention may leave what it has no use for.
  const size_t used = model->parameters().tensors().size();
  if (!other && used != file->tensors.size())
    return Invalid(
        fmt::format("{}: has {} tensors, of which {} are of a model "
                    "with {}",
                    path, file->tensors.size(), used, model->options().spec));
  return model;
}

}  // namespace saccade::bench
