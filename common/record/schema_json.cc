// The schema for programs that know JSON Schema.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "record/schema.h"

namespace saccade::record {
namespace {

std::vector<std::string> Words(std::string_view text, char separator) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == separator) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  std::erase(words, "");
  return words;
}

Json NumberSchema(const Field& field) {
  Json schema = {{"type", "number"}};
  if (field.low != field.high) {
    schema["minimum"] = field.low;
    schema["maximum"] = field.high;
  }
  return schema;
}

Json TypeSchema(const Field& field) {
  switch (field.type) {
    case Type::kText:
      return {{"type", "string"}, {"maxLength", kMaxTextBytes}};
    case Type::kCount:
      return {{"type", "integer"}, {"minimum", 0}, {"maximum", kMaxCount}};
    case Type::kNumber:
      return NumberSchema(field);
    case Type::kFlag:
      return {{"type", "boolean"}};
    case Type::kNumbers:
      return {
          {"type", "array"},
          {"maxItems", kMaxArrayItems},
          {"items", {{"anyOf", {NumberSchema(field), {{"type", "null"}}}}}}};
    case Type::kTexts:
      return {{"type", "array"},
              {"maxItems", kMaxArrayItems},
              {"items", {{"type", "string"}, {"maxLength", kMaxTextBytes}}}};
  }
  return {};
}

Json FieldSchema(const Field& field) {
  Json schema = {{"description", field.doc}};
  schema.update(TypeSchema(field));
  if (!field.choices.empty()) schema["enum"] = Words(field.choices, '|');
  return schema;
}

Json FieldReference(const std::string& field) {
  return {{"$ref", "#/$defs/field." + field}};
}

// An object that says that these fields are there, and not null.
Json Present(const std::vector<std::string>& fields) {
  Json properties = Json::object();
  for (const std::string& field : fields)
    properties[field] = FieldReference(field);
  return {{"properties", properties}, {"required", fields}};
}

Json KindSchema(const Kind& kind) {
  Json properties = {{"kind", {{"const", kind.name}}}};
  const auto add = [&](std::string_view names) {
    for (const std::string& name : Words(names, ' '))
      properties[name] = {
          {"anyOf", {FieldReference(name), {{"type", "null"}}}}};
  };
  for (const std::string_view names :
       {std::string_view("status reason"), kind.identity, kind.result,
        kind.optional})
    add(names);
  Json always = Present(Words(kind.identity, ' '));
  return {{"description", kind.doc},
          {"properties", properties},
          {"additionalProperties", false},
          {"allOf", {always}},
          {"if", {{"properties", {{"status", {{"enum", {"ok", nullptr}}}}}}}},
          {"then", Present(Words(kind.result, ' '))},
          {"else", Present({"reason"})}};
}

}  // namespace

Json SchemaJson() {
  Json names = Json::array(), cases = Json::array();
  Json parts = Json::object();
  for (const Kind& kind : Kinds()) {
    const std::string name(kind.name);
    names.push_back(name);
    parts["kind." + name] = KindSchema(kind);
    cases.push_back({{"if", {{"properties", {{"kind", {{"const", name}}}}}}},
                     {"then", {{"$ref", "#/$defs/kind." + name}}}});
  }
  for (const Field& field : Fields())
    parts["field." + std::string(field.name)] = FieldSchema(field);
  return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
          {"title", fmt::format("A line of a run's record (run.jsonl), schema "
                                "version {}",
                                kSchemaVersion)},
          {"description",
           "The first line of a file is of kind \"run\", and no other is. A "
           "field that is null counts as missing."},
          {"type", "object"},
          {"properties", {{"kind", {{"enum", names}}}}},
          {"required", {"kind"}},
          {"allOf", cases},
          {"$defs", parts}};
}

}  // namespace saccade::record
