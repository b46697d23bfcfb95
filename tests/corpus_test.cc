// Texts for training: the reader of R's lazy-load databases, on a database
// written here from the format's description, on the real one where it is at
// hand, and on hostile bytes; and text files and their split.
#include "bench/corpus.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "bench/learn/random.h"
#include "bench/rdata.h"
#include "tests/folder.h"

namespace saccade::bench {
namespace {

namespace fs = std::filesystem;

using ByteVector = std::vector<uint8_t>;

// Writes R's XDR format (R Internals, section 1.8).
class Writer {
 public:
  explicit Writer(uint32_t version = 2) {
    bytes_ = {'X', '\n'};
    Word(version), Word(0x030600), Word(0x020300);
    if (version == 3) Text("UTF-8");
  }
  void Word(uint32_t x) {
    for (const int shift : {24, 16, 8, 0}) bytes_.push_back(x >> shift);
  }
  // A length and that many characters.
  void Text(const std::string& s) {
    Word(s.size());
    bytes_.insert(bytes_.end(), s.begin(), s.end());
  }
  void String(const std::string& s) { Word(kString), Text(s); }
  void Strings(const std::vector<std::string>& strings) {
    Word(kStrings), Word(strings.size());
    for (const std::string& s : strings) String(s);
  }
  void Integers(const std::vector<int32_t>& integers) {
    Word(kIntegers), Word(integers.size());
    for (const int32_t x : integers) Word(static_cast<uint32_t>(x));
  }
  void List(uint32_t size, bool attributes) {
    Word(kList | (attributes ? kHasAttributes : 0)), Word(size);
  }
  // The attribute "names" and the end of attributes; a symbol is spelt the
  // first time, and referred to afterwards.
  void Names(const std::vector<std::string>& names) {
    Word(kPairList | kHasTag);
    if (named_) {
      Word(1 << 8 | kReference);
    } else {
      Word(kSymbol), String("names");
      named_ = true;
    }
    Strings(names);
    Word(kNil);
  }
  const ByteVector& bytes() const { return bytes_; }

  static constexpr uint32_t kSymbol = 1, kPairList = 2, kString = 9,
                            kIntegers = 13, kStrings = 16, kList = 19,
                            kNil = 254, kReference = 255;
  static constexpr uint32_t kHasAttributes = 0x200, kHasTag = 0x400;

 private:
  ByteVector bytes_;
  bool named_ = false;
};

ByteVector Deflate(const ByteVector& in, bool gzip) {
  z_stream stream = {};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + (gzip ? 16 : 0), 8,
                       Z_DEFAULT_STRATEGY) == Z_OK);
  ByteVector out(deflateBound(&stream, in.size()));
  stream.next_in = const_cast<uint8_t*>(in.data());
  stream.avail_in = in.size();
  stream.next_out = out.data();
  stream.avail_out = out.size();
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

ByteVector Record(const ByteVector& object) {
  ByteVector record;
  for (const int shift : {24, 16, 8, 0})
    record.push_back(object.size() >> shift);
  const ByteVector packed = Deflate(object, false);
  record.insert(record.end(), packed.begin(), packed.end());
  return record;
}

struct Database {
  ByteVector index, data;
};

// The serialised index over records of these names and places.
ByteVector Index(const std::vector<std::string>& names,
                 const std::vector<std::vector<int32_t>>& places) {
  Writer w;
  w.List(2, true);
  w.List(places.size(), true);
  for (const std::vector<int32_t>& place : places) w.Integers(place);
  w.Names(names);
  w.List(0, false);
  w.Names({"variables", "references"});
  return w.bytes();
}

Database Join(const std::vector<std::string>& names,
              const std::vector<ByteVector>& objects) {
  Database database;
  std::vector<std::vector<int32_t>> places;
  for (const ByteVector& object : objects) {
    const ByteVector record = Record(object);
    places.push_back({static_cast<int32_t>(database.data.size()),
                      static_cast<int32_t>(record.size())});
    database.data.insert(database.data.end(), record.begin(), record.end());
  }
  database.index = Deflate(Index(names, places), true);
  return database;
}

ByteVector TextObject(const std::vector<std::string>& lines,
                      uint32_t version = 2) {
  Writer w(version);
  w.Strings(lines);
  return w.bytes();
}

const std::vector<std::string> kEmma = {
    "EMMA", "", "handsome, clever, and rich, with a caf\xc3\xa9"};
const std::vector<std::string> kSusan = {"Lady Susan", "a letter"};

// Two texts, one of each version, and numbers between them.
Database Small() {
  Writer numbers;
  numbers.Integers({1, 2, 3});
  return Join({"emma", "years", "susan"},
              {TextObject(kEmma), numbers.bytes(), TextObject(kSusan, 3)});
}

bool IsSmall(const std::vector<RText>& texts) {
  return texts.size() == 2 && texts[0].name == "emma" &&
         texts[0].lines == kEmma && texts[1].name == "susan" &&
         texts[1].lines == kSusan;
}

bool OneLine(const Status& status) {
  return status.code() == Code::kIo && status.message().size() > 10 &&
         status.message().size() < 300 &&
         status.message().find('\n') == std::string::npos;
}

TEST_CASE("a lazy-load database gives its texts") {
  const Database database = Small();
  const auto texts = ReadLazyLoad(database.index, database.data);
  REQUIRE_MESSAGE(texts.ok(), texts.status().message());
  CHECK(IsSmall(*texts));

  // A missing string has a length of -1 and no characters.
  Writer w;
  w.Word(Writer::kStrings), w.Word(2), w.String("a");
  w.Word(Writer::kString), w.Word(0xffffffff);
  const Database missing = Join({"x"}, {w.bytes()});
  const auto read = ReadLazyLoad(missing.index, missing.data);
  REQUIRE(read.ok());
  CHECK((*read)[0].lines == std::vector<std::string>{"a", ""});
}

TEST_CASE("a truncated database is refused, wherever it ends") {
  const Database whole = Small();
  for (size_t n = 0; n < whole.index.size(); ++n) {
    const auto texts =
        ReadLazyLoad(std::span(whole.index).first(n), whole.data);
    CAPTURE(n);
    REQUIRE(!texts.ok());
    CHECK(OneLine(texts.status()));
  }
  for (size_t n = 0; n < whole.data.size(); ++n) {
    const auto texts =
        ReadLazyLoad(whole.index, std::span(whole.data).first(n));
    CAPTURE(n);
    REQUIRE(!texts.ok());
    CHECK(OneLine(texts.status()));
  }
}

TEST_CASE("an object cut short behind a sound compression is refused") {
  const ByteVector text = TextObject(kEmma);
  for (size_t n = 0; n < text.size(); ++n) {
    const Database cut = Join({"emma"}, {{text.begin(), text.begin() + n}});
    const auto texts = ReadLazyLoad(cut.index, cut.data);
    CAPTURE(n);
    REQUIRE(!texts.ok());
    CHECK(OneLine(texts.status()));
    CHECK(texts.status().message().find("'emma'") != std::string::npos);
  }
  const Database whole = Small();
  const ByteVector index = Index({"emma"}, {{0, 9}});
  for (size_t n = 0; n < index.size(); ++n) {
    const auto texts = ReadLazyLoad(
        Deflate({index.begin(), index.begin() + n}, true), whole.data);
    CAPTURE(n);
    REQUIRE(!texts.ok());
    CHECK(OneLine(texts.status()));
  }
}

TEST_CASE("a flipped bit is found out, or changes nothing") {
  // Compression sums its content up; what is left are remarks in gzip's header.
  const Database whole = Small();
  int refused = 0, tried = 0;
  for (const bool in_index : {true, false}) {
    Database changed = whole;
    ByteVector& bytes = in_index ? changed.index : changed.data;
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      bytes[bit / 8] ^= 1 << bit % 8;
      const auto texts = ReadLazyLoad(changed.index, changed.data);
      bytes[bit / 8] ^= 1 << bit % 8;
      CAPTURE(in_index);
      CAPTURE(bit);
      REQUIRE((texts.ok() ? IsSmall(*texts) : OneLine(texts.status())));
      refused += !texts.ok();
      ++tried;
    }
  }
  // Time, system and flags in the header: 7 bytes; and up to 7 bits that fill
  // the last byte of each of 4 streams.
  CHECK(refused >= tried - 56 - 28);
}

TEST_CASE("garbage in a sound envelope is read or refused, never worse") {
  // Every bit of the objects themselves, and words that count or name types.
  const ByteVector text = TextObject(kEmma);
  const Database whole = Join({"emma"}, {text});
  const ByteVector index =
      Index({"emma"}, {{0, static_cast<int32_t>(whole.data.size())}});
  int refused = 0, read = 0;
  const auto check = [&](const ByteVector& i, const ByteVector& data) {
    const auto texts = ReadLazyLoad(i, data);
    if (!texts.ok()) REQUIRE(OneLine(texts.status()));
    ++(texts.ok() ? read : refused);
  };
  const auto spoil = [&](ByteVector bytes, bool is_index,
                         const std::function<void(ByteVector&)>& change) {
    change(bytes);
    if (is_index) return check(Deflate(bytes, true), whole.data);
    const Database changed = Join({"emma"}, {bytes});
    check(changed.index, changed.data);
  };
  for (const bool is_index : {true, false}) {
    const ByteVector& bytes = is_index ? index : text;
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      spoil(bytes, is_index,
            [=](ByteVector& b) { b[bit / 8] ^= 1 << bit % 8; });
    }
    for (size_t at = 0; at + 4 <= bytes.size(); ++at) {
      for (const uint8_t fill : {0x00, 0x7f, 0x80, 0xff}) {
        spoil(bytes, is_index,
              [=](ByteVector& b) { std::fill_n(b.begin() + at, 4, fill); });
      }
    }
  }
  Random random(1, "garbage");
  for (int i = 0; i < 300; ++i) {
    ByteVector noise(random.Below(200));
    for (uint8_t& b : noise) b = static_cast<uint8_t>(random.Below(256));
    check(noise, noise);
    spoil(text, i % 2 == 0, [&](ByteVector& b) {
      b.resize(14);  // a sound header
      b.insert(b.end(), noise.begin(), noise.end());
    });
  }
  // Bits inside strings change the text and nothing else.
  CHECK(read > 100);
  CHECK(refused > 1000);
}

// The most memory that was resident since the last call, in bytes; 0 where the
// kernel does not say. The sanitizers keep what was freed.
int64_t PeakGrowth(const std::function<void()>& work) {
  const auto read = [](const std::string& key) -> int64_t {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
      int64_t kib = 0;
      if (word == key && status >> kib) return kib << 10;
    }
    return 0;
  };
  std::ofstream("/proc/self/clear_refs") << '5' << std::flush;
  const int64_t before = read("VmRSS:");
  work();
  return read("VmHWM:") - before;
}

TEST_CASE("a lie about sizes costs no memory") {
  constexpr int64_t kMiB = 1 << 20;
  struct Lie {
    const char* what;
    Database database;
  };
  std::vector<Lie> lies;
  const auto object = [](std::initializer_list<uint32_t> words) {
    Writer w;
    for (const uint32_t word : words) w.Word(word);
    return w.bytes();
  };
  for (const uint32_t type :
       {Writer::kStrings, Writer::kIntegers, Writer::kList, Writer::kString}) {
    lies.push_back({"counts", Join({"x"}, {object({type, 0x7fffffff, 0, 0})})});
  }
  lies.push_back({"a string longer than all", Join({"x"}, {[] {
                                                     Writer w;
                                                     w.Word(Writer::kStrings),
                                                         w.Word(1);
                                                     w.Word(Writer::kString),
                                                         w.Word(0xfffffff0);
                                                     return w.bytes();
                                                   }()})});
  // A list in a list in a list.
  Writer deep;
  for (int i = 0; i < 100000; ++i) deep.List(1, false);
  lies.push_back({"depth", Join({"x"}, {deep.bytes()})});
  // Millions of nothings: 4 bytes each here, far more as objects.
  Writer wide;
  wide.List(4 << 20, false);
  for (int i = 0; i < 4 << 20; ++i) wide.Word(Writer::kNil);
  lies.push_back({"width", Join({"x"}, {wide.bytes()})});
  // A record that claims 4 GiB, and one that holds more than it claims.
  Database claims = Small();
  std::fill_n(claims.data.begin(), 4, 0xff);
  lies.push_back({"a record's claim", claims});
  Database modest = Small();
  std::fill_n(modest.data.begin(), 3, 0), modest.data[3] = 16;
  lies.push_back({"a record's modesty", modest});
  // An index that inflates to 256 MiB.
  lies.push_back(
      {"an index of zeros", {Deflate(ByteVector(256 * kMiB), true), {}}});
  for (const Lie& lie : lies) {
    CAPTURE(lie.what);
    const int64_t growth = PeakGrowth([&lie] {
      const auto texts = ReadLazyLoad(lie.database.index, lie.database.data);
      REQUIRE(!texts.ok());
      CHECK(OneLine(texts.status()));
    });
    // The widest is 16 MiB of honest bytes and 2^16 objects of them.
    CHECK(growth < 64 * kMiB);
  }
}

TEST_CASE("places outside the data are refused") {
  const Database small = Small();
  const auto size = static_cast<int32_t>(small.data.size());
  for (const std::vector<int32_t>& place : {std::vector<int32_t>{-1, 20},
                                            {0, -1},
                                            {0, size + 1},
                                            {size, 1},
                                            {size + 1, 0},
                                            {0x7fffffff, 0x7fffffff},
                                            {0},
                                            {0, 20, 20},
                                            {}}) {
    const auto texts =
        ReadLazyLoad(Deflate(Index({"x"}, {place}), true), small.data);
    REQUIRE(!texts.ok());
    CHECK(texts.status().message().find("'x'") != std::string::npos);
  }
  // Names that do not match the places.
  CHECK(!ReadLazyLoad(Deflate(Index({"x", "y"}, {{0, 20}}), true), small.data)
             .ok());
  CHECK(!ReadLazyLoad(Deflate(Index({}, {{0, 20}}), true), small.data).ok());
}

TEST_CASE("the novels, where their package is at hand") {
  // Looked up, not fetched: tests do not need a network.
  const fs::path places[] = {"/usr/lib/R/site-library/janeaustenr/data",
                             fs::path(DefaultCache()) / "janeaustenr"};
  if (std::none_of(std::begin(places), std::end(places),
                   [](const auto& p) { return fs::exists(p / "Rdata.rdb"); })) {
    MESSAGE("not at hand; the program fetches them when it first runs");
    return;
  }
  const Result<Corpus> corpus = ReadAusten(DefaultCache());
  REQUIRE_MESSAGE(corpus.ok(), corpus.status().message());
  CHECK(corpus->test.size() == 466854);
  CHECK(corpus->train.size() + corpus->test.size() == 4025029);
  std::set<char> symbols(corpus->train.begin(), corpus->train.end());
  symbols.insert(corpus->test.begin(), corpus->test.end());
  CHECK(symbols.size() == 82);
  CHECK(corpus->test.find("Sir Walter Elliot, of Kellynch Hall") !=
        std::string::npos);
  // None of the test text is trained on.
  CHECK(corpus->train.find("Kellynch") == std::string::npos);
  CHECK(corpus->train.find("It is a truth universally acknowledged") !=
        std::string::npos);
}

// Lines that all differ.
std::string Lines(const std::string& word, size_t bytes) {
  std::string text;
  for (int i = 0; text.size() < bytes; ++i)
    text += word + " " + std::to_string(i) + "\n";
  text.resize(bytes);
  return text;
}

TEST_CASE("text files are split by file, a lone one at nine tenths") {
  const Folder folder;
  const std::string one = Lines("one", 40003), two = Lines("two", 20000),
                    three = Lines("three", 30000);
  const std::string a = folder.Write("a.txt", one);
  const std::string b = folder.Write("b.txt", two);
  const std::string c = folder.Write("c.txt", three);
  const auto lone = ReadCorpus(std::vector{a});
  REQUIRE(lone.ok());
  CHECK(lone->name == "a.txt");
  CHECK(lone->test.size() == 4000);
  CHECK(lone->train + lone->test == one);
  const auto all = ReadCorpus(std::vector{a, b, c});
  REQUIRE(all.ok());
  CHECK(all->train == one + two);
  CHECK(all->test == three);
  CHECK(all->name == "a.txt, b.txt, c.txt");
}

TEST_CASE("files that are no text are refused by name") {
  const Folder folder;
  const std::string good = folder.Write("good.txt", Lines("good", 40000));
  std::string zero = Lines("zero", 40000), bell = zero;
  zero[1234] = '\0';
  for (size_t i = 0; i < bell.size(); i += 50) bell[i] = '\a';
  struct Case {
    std::vector<std::string> files;
    Code code;
    std::string says;
  };
  for (const Case& c : std::vector<Case>{
           {{}, Code::kInvalid, "at least one file"},
           {{folder.path() + "/none.txt"}, Code::kNotFound, "none.txt"},
           {{folder.path()}, Code::kIo, "folder"},
           {{folder.Write("empty.txt", "")}, Code::kInvalid, "is empty"},
           {{good, folder.Write("zero.txt", zero)},
            Code::kInvalid,
            "byte 1234"},
           {{folder.Write("bell.txt", bell), good}, Code::kInvalid, "control"},
           {{folder.Write("tiny.txt", Lines("tiny", kMinTrain))},
            Code::kInvalid,
            "too small"},
           {{good, folder.Write("short.txt", Lines("short", kMinTest - 1))},
            Code::kInvalid,
            "too small"}}) {
    const auto corpus = ReadCorpus(c.files);
    CAPTURE(c.says);
    REQUIRE(!corpus.ok());
    CHECK(corpus.status().code() == c.code);
    CHECK(corpus.status().message().find(c.says) != std::string::npos);
    CHECK(corpus.status().message().find('\n') == std::string::npos);
  }
}

}  // namespace
}  // namespace saccade::bench
