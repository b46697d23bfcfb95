#include "bench/json_keys.h"

#include <fmt/format.h>

#include <algorithm>

#include "nearest.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

const json& Empty() {
  static const json empty = json::object();
  return empty;
}

}  // namespace

Keys::Keys(const json& object, std::string where)
    : object_(object.is_object() ? object : Empty()), where_(std::move(where)) {
  if (!object.is_object())
    status_ = Invalid(fmt::format("{}: must be an object", where_));
}

const json* Keys::Find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() ? nullptr : &*it;
}

void Keys::Wrong(const char* key, const std::string& should) {
  if (status_.ok())
    status_ =
        Invalid(fmt::format("{}: \"{}\" must be {}", where_, key, should));
}

void Keys::Number(const char* key, double* value, double low, double high) {
  const json* const j = Find(key);
  if (!j) return;
  if (j->is_number() && *j >= low && *j <= high) {
    *value = j->get<double>();
  } else {
    Wrong(key, fmt::format("a number from {} to {}", low, high));
  }
}

void Keys::Count(const char* key, int64_t* value, int64_t low, int64_t high) {
  const json* const j = Find(key);
  if (!j) return;
  if (j->is_number_integer() && *j >= low && *j <= high) {
    *value = j->get<int64_t>();
  } else {
    Wrong(key, fmt::format("a whole number from {} to {}", low, high));
  }
}

void Keys::Text(const char* key, std::string* value) {
  const json* const j = Find(key);
  if (!j) return;
  if (j->is_string()) {
    *value = j->get<std::string>();
  } else {
    Wrong(key, "a text");
  }
}

std::string Keys::List(const char* key) {
  const json* const j = Find(key);
  if (!j) return {};
  std::string text;
  for (const json& item : j->is_array() ? *j : json::array({*j})) {
    if (!item.is_string() && !item.is_number_integer()) {
      Wrong(key, "a text, a whole number or a list of them");
      return {};
    }
    text += (text.empty() ? "" : ",") +
            (item.is_string() ? item.get<std::string>() : item.dump());
  }
  return text;
}

void Keys::Texts(const char* key, std::vector<std::string>* values) {
  const json* const j = Find(key);
  if (!j) return;
  values->clear();
  const auto text = [](const json& item) { return item.is_string(); };
  if (!j->is_array() || !std::all_of(j->begin(), j->end(), text)) {
    Wrong(key, "a list of texts");
    return;
  }
  for (const json& item : *j) values->push_back(item.get<std::string>());
}

void Keys::Counts(const char* key, std::vector<int64_t>* values, int64_t low,
                  int64_t high) {
  const json* const j = Find(key);
  if (!j) return;
  values->clear();
  bool fine = j->is_array() && !j->empty();
  for (size_t i = 0; fine && i < j->size(); ++i) {
    const json& item = (*j)[i];
    fine = item.is_number_integer() && item >= low && item <= high;
    if (fine) values->push_back(item.get<int64_t>());
  }
  if (!fine)
    Wrong(key, fmt::format("a list of whole numbers from {} to {}", low, high));
}

const json& Keys::Object(const char* key) {
  const json* const j = Find(key);
  if (!j) return Empty();
  if (j->is_object()) return *j;
  Wrong(key, "an object");
  return Empty();
}

const json& Keys::Array(const char* key) {
  static const json none = json::array();
  const json* const j = Find(key);
  if (!j) return none;
  if (j->is_array()) return *j;
  Wrong(key, "a list");
  return none;
}

void Keys::OnlyKnown(const std::vector<std::string_view>& known) {
  for (const auto& [key, value] : object_.items())
    if (status_.ok() &&
        std::find(known.begin(), known.end(), key) == known.end())
      status_ = Invalid(fmt::format("{}: there is no key \"{}\"{}", where_, key,
                                    DidYouMean(key, known)));
}

}  // namespace saccade::bench
