#include "report_fixture.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

namespace saccade::reports {
namespace {

bool IsVoid(const std::string& name) {
  return name == "meta" || name == "link" || name == "br" || name == "hr" ||
         name == "img" || name == "input";
}

class HtmlReader {
 public:
  explicit HtmlReader(const std::string& html) : html_(html) {}

  std::vector<Element> Read() {
    REQUIRE(html_.starts_with("<!DOCTYPE html>\n"));
    at_ = html_.find('\n');
    while (at_ < html_.size()) Step();
    CHECK_MESSAGE(open_.empty(),
                  "left open: ", open_.empty() ? std::string() : open_.back());
    return std::move(elements_);
  }

 private:
  void Step() {
    at_ = std::min(html_.find_first_of("<>&", at_), html_.size());
    if (at_ == html_.size()) return;
    const char c = html_[at_];
    if (c == '&') {
      const size_t end = html_.find(';', at_);
      if (end == std::string::npos || end - at_ > 8) {
        FAIL("a bare & at " << html_.substr(at_, 40));
      }
    }
    if (c != '<') {
      if (c == '>') FAIL("a bare > at " << html_.substr(at_, 40));
      ++at_;
    } else if (html_[at_ + 1] == '/') {
      Close();
    } else {
      Open();
    }
  }

  std::string Name() {
    const size_t begin = at_;
    while (at_ < html_.size() &&
           (std::isalnum(html_[at_]) != 0 || html_[at_] == '-')) {
      ++at_;
    }
    if (at_ == begin) FAIL("no name at " << html_.substr(begin, 40));
    return html_.substr(begin, at_ - begin);
  }

  void Close() {
    at_ += 2;
    const std::string name = Name();
    if (html_[at_] != '>') FAIL("in an end tag: " << name);
    ++at_;
    if (open_.empty()) FAIL("closed twice: " << name);
    if (open_.back() != name) FAIL(name << " crosses " << open_.back());
    open_.pop_back();
  }

  void Open() {
    Element element;
    element.begin = at_;
    ++at_;
    element.name = Name();
    while (html_[at_] == ' ') {
      ++at_;
      Attribute(element);
    }
    REQUIRE_MESSAGE(html_[at_] == '>',
                    "in a tag: ", html_.substr(element.begin, 80));
    ++at_;
    element.end = at_;
    if (element.name == "script" || element.name == "style") {
      const size_t end = html_.find("</" + element.name + ">", at_);
      REQUIRE(end != std::string::npos);
      element.raw = html_.substr(at_, end - at_);
      at_ = end;
    }
    if (!IsVoid(element.name)) open_.push_back(element.name);
    elements_.push_back(std::move(element));
  }

  void Attribute(Element& element) {
    const std::string name = Name();
    std::string value;
    if (html_[at_] == '=') {
      if (html_[at_ + 1] != '"') FAIL("without quotes: " << name);
      const size_t begin = at_ + 2;
      at_ = html_.find('"', begin);
      if (at_ == std::string::npos) FAIL("without an end: " << name);
      value = html_.substr(begin, at_ - begin);
      if (Mentions(value, "<")) FAIL_CHECK("markup in " << name);
      ++at_;
    }
    if (!element.attributes.emplace(name, value).second) {
      FAIL_CHECK("twice: " << name);
    }
  }

  const std::string& html_;
  size_t at_ = 0;
  std::vector<std::string> open_;
  std::vector<Element> elements_;
};

const std::set<std::string> kLoading = {"src", "srcset", "data", "action",
                                        "style"};
const std::set<std::string> kFrames = {"iframe", "object", "embed", "base",
                                       "form"};

// Where an attribute of an element may lead: nowhere outside of the page.
void CheckReach(const Element& element) {
  for (const auto& [name, value] : element.attributes) {
    const bool inside = name != "href" || value[0] == '#' || value == "data:,";
    if (name.starts_with("on") || kLoading.contains(name) || !inside) {
      FAIL_CHECK(element.name << " has " << name << "=" << value);
    }
  }
  CHECK_FALSE(kFrames.contains(element.name));
  if (element.name == "style") {
    CHECK_FALSE(Mentions(element.raw, "@import"));
    CHECK_FALSE(Mentions(element.raw, "url("));
  }
}

void CheckFigure(const std::string& html, const Element& figure) {
  const size_t end = html.find("</figure>", figure.end);
  const std::string inside = html.substr(figure.end, end - figure.end);
  INFO("figure " << figure.attributes.at("id"));
  CHECK(Mentions(inside, "<figcaption>"));
  // At least one row of numbers below the head.
  CHECK(Mentions(inside, "<table>"));
  CHECK(Mentions(inside, "<th scope=\"row\""));
}

// How many of the characters stand in a line without a backslash before them.
size_t Bare(const std::string& line, std::string_view characters) {
  size_t bare = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;
    } else {
      bare += characters.find(line[i]) != std::string_view::npos;
    }
  }
  return bare;
}

}  // namespace

std::vector<Element> ParseHtml(const std::string& html) {
  return HtmlReader(html).Read();
}

std::vector<Element> CheckPage(const std::string& html) {
  std::vector<Element> elements = ParseHtml(html);
  std::set<std::string> ids;
  size_t titles = 0, h1 = 0, figures = 0, charts = 0, settings = 0,
         programs = 0;
  for (const Element& element : elements) {
    CheckReach(element);
    const auto id = element.attributes.find("id");
    if (id != element.attributes.end()) {
      CHECK_MESSAGE(ids.insert(id->second).second, "twice: ", id->second);
    }
    titles += element.name == "title";
    h1 += element.name == "h1";
    settings += element.name == "script" && id != element.attributes.end() &&
                id->second == "settings";
    if (element.name == "figure") {
      ++figures;
      CheckFigure(html, element);
    }
    if (element.name != "script") continue;
    if (element.attributes.contains("type")) {
      ++charts;
      CHECK(element.attributes.at("type") == "application/json");
      CHECK(nlohmann::json::accept(element.raw));
      CHECK_FALSE(Mentions(element.raw, "<"));
    } else {
      ++programs;
    }
  }
  CHECK(titles == 1);
  CHECK(h1 == 1);
  CHECK(charts == figures + settings);
  CHECK(programs == 2);  // the chart library and our own
  CHECK(Mentions(html, "default-src 'none'"));
  for (const Element& element : elements) {
    const auto href = element.attributes.find("href");
    if (href == element.attributes.end() || href->second[0] != '#') continue;
    CHECK_MESSAGE(ids.contains(href->second.substr(1)), href->second);
  }
  return elements;
}

void CheckMarkdown(const std::string& markdown) {
  size_t bars = 0;
  for (const std::string& line : LinesOf(markdown)) {
    if (line.starts_with("    ")) continue;  // code as it is
    INFO(line);
    CHECK_FALSE(Mentions(line, "<"));
    CHECK_FALSE(Mentions(line, "@"));
    // Our own text has none of these: each would be a name's.
    CHECK(Bare(line, "`[]~_") == 0);
    if (!line.starts_with("|")) {
      CHECK(Bare(line, "|") == 0);
      bars = 0;
      continue;
    }
    if (bars == 0) bars = Bare(line, "|");
    CHECK(Bare(line, "|") == bars);
    CHECK(line.ends_with("|"));
  }
}

}  // namespace saccade::reports
