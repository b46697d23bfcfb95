#include "record/record.h"

#include <limits>

namespace saccade::record {

const Json* Record::Find(std::string_view field) const {
  const auto it = fields_.find(std::string(field));
  return it == fields_.end() || it->is_null() ? nullptr : &*it;
}

bool Record::Has(std::string_view field) const {
  return Find(field) != nullptr;
}

std::string Record::Text(std::string_view field) const {
  const Json* value = Find(field);
  return value != nullptr && value->is_string() ? value->get<std::string>()
                                                : std::string();
}

int64_t Record::Count(std::string_view field) const {
  const Json* value = Find(field);
  return value != nullptr && value->is_number_integer() ? value->get<int64_t>()
                                                        : 0;
}

double Record::Number(std::string_view field) const {
  const Json* value = Find(field);
  return value != nullptr && value->is_number()
             ? value->get<double>()
             : std::numeric_limits<double>::quiet_NaN();
}

bool Record::Flag(std::string_view field) const {
  const Json* value = Find(field);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

std::vector<double> Record::Numbers(std::string_view field) const {
  std::vector<double> numbers;
  const Json* value = Find(field);
  if (value == nullptr || !value->is_array()) return numbers;
  for (const Json& item : *value) {
    numbers.push_back(item.is_number()
                          ? item.get<double>()
                          : std::numeric_limits<double>::quiet_NaN());
  }
  return numbers;
}

std::vector<std::string> Record::Texts(std::string_view field) const {
  std::vector<std::string> texts;
  const Json* value = Find(field);
  if (value == nullptr || !value->is_array()) return texts;
  for (const Json& item : *value) {
    if (item.is_string()) texts.push_back(item.get<std::string>());
  }
  return texts;
}

std::string Record::status() const {
  std::string status = Text("status");
  return status.empty() ? "ok" : status;
}

}  // namespace saccade::record
