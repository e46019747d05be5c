#include "trace/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "support.h"

namespace greta {
namespace {

using json::parse;
using json::Value;
constexpr double kInf = std::numeric_limits<double>::infinity();

std::string error_at(std::string_view text) {
  const auto value = parse(text);
  return value ? "" : value.error();
}

double number_in(const std::string& text) { return parse(text).value().number().value(); }

TEST(Json, ReadsValues) {
  const auto value = parse(R"( {"a": [1, -2.5, 3e2], "b": {"c": "x\ny\u00e9\ud83d\ude00"}, "d": true, "e": null, "f": []} )");
  ASSERT_TRUE(value) << value.error();
  EXPECT_EQ(*value->find("a")->numbers(), (std::vector<double>{1, -2.5, 300}));
  EXPECT_EQ(*value->find("b")->find("c")->string(), "x\ny\xc3\xa9\xf0\x9f\x98\x80");
  EXPECT_EQ(value->find("d")->boolean(), true);
  EXPECT_TRUE(value->find("f")->numbers()->empty());
  EXPECT_EQ(value->find("g"), nullptr);
  EXPECT_EQ(value->find("e")->number(), std::nullopt);
}

TEST(Json, ReadsNonFiniteNumbersAsProgramsWriteThem) {
  for (const char* text : {"nan", "NaN", "-nan", "NAN", "\"NaN\""}) EXPECT_TRUE(std::isnan(number_in(text))) << text;
  for (const char* text : {"inf", "Infinity", "INF", "infinity", "\"Infinity\""}) EXPECT_EQ(number_in(text), kInf) << text;
  for (const char* text : {"-inf", "-Infinity", "\"-Infinity\""}) EXPECT_EQ(number_in(text), -kInf) << text;
  const auto row = parse(R"([1, "NaN", -inf, "Infinity", nan])");
  ASSERT_TRUE(row && row->numbers());
  EXPECT_TRUE(test::same(*row->numbers(), {1, std::nan(""), -kInf, kInf, std::nan("")}));
  EXPECT_NE(error_at("nanny"), "");
  EXPECT_NE(error_at("-"), "");
  EXPECT_NE(error_at("[-x]"), "");
}

TEST(Json, KeepsIntegersExact) {
  EXPECT_EQ(parse("9223372036854775807")->integer(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(parse("-9223372036854775808")->integer(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(parse("9223372036854775808")->integer(), std::nullopt);
  EXPECT_EQ(parse("9223372036854775808")->number(), 0x1p63);
  EXPECT_EQ(parse("3.0")->integer(), std::nullopt);
  EXPECT_TRUE(std::signbit(number_in("-0")));
  EXPECT_TRUE(std::signbit(number_in("-0.0")));
}

TEST(Json, BoundsNumbers) {
  EXPECT_EQ(number_in("1e-400"), 0);
  EXPECT_EQ(number_in("4.9406564584124654e-324"), std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(number_in("1.7976931348623157e308"), std::numeric_limits<double>::max());
  EXPECT_NE(error_at("1e309").find("beyond float64"), std::string::npos);
  EXPECT_NE(error_at("[1, -1e99999999999999999999]").find("beyond float64"), std::string::npos);
  EXPECT_NE(error_at(std::string(100000, '9')).find("beyond float64"), std::string::npos);
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[",
                           "[1",
                           "[1,",
                           "[1,]",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":1",
                           "{\"a\":1,",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{1:2}",
                           "\"",
                           "\"\\",
                           "\"\\u12",
                           "\"\\ud800\"",
                           "\"\\ud800\\u0041\"",
                           "\"\\udc00\"",
                           "\"\\x\"",
                           "\"a\nb\"",
                           "01",
                           "1.",
                           ".5",
                           "+1",
                           "1e",
                           "1e+",
                           "--1",
                           "tru",
                           "nul",
                           "1 2",
                           "[1 2]",
                           "{\"a\" 1}",
                           "[1}",
                           "{]",
                           "\"a\" x",
                           "[,1]",
                           "0x10",
                           "1_000"})
    EXPECT_NE(error_at(text), "") << text;
}

TEST(Json, NamesTheColumn) {
  EXPECT_EQ(error_at("{\"a\": 1 \"b\": 2}"), "column 9: expected ',' or '}', found '\"'");
  EXPECT_EQ(error_at("[1, 2"), "column 6: expected ',' or ']', the text ends");
}

TEST(Json, RefusesAKeyTwice) {
  EXPECT_NE(error_at(R"({"a":1,"b":2,"a":1})").find("key 'a' twice"), std::string::npos);
  EXPECT_EQ(error_at(R"({"a":1,"b":{"a":1}})"), "");
}

TEST(Json, BoundsDepthAndSize) {
  EXPECT_NE(error_at(std::string(1'000'000, '[')).find("nested deeper"), std::string::npos);
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
  EXPECT_NE(error_at(deep).find("nested deeper"), std::string::npos);
  std::string many = "[{}";
  for (int i = 0; i < 300'000; ++i) many += ",{}";
  EXPECT_NE(error_at(many + "]").find("more than"), std::string::npos);
  std::string spilled = "[1";  // numbers first, then something else
  for (int i = 0; i < 300'000; ++i) spilled += ",1";
  EXPECT_NE(error_at(spilled + ",{}]").find("more than"), std::string::npos);
  EXPECT_EQ(error_at(spilled + "]"), "");
}

TEST(Json, MixedArraysKeepTheirElements) {
  const auto value = parse(R"([1, 2.5, null, "x"])");
  ASSERT_TRUE(value && value->array());
  ASSERT_EQ(value->array()->size(), 4u);
  EXPECT_EQ((*value->array())[0].integer(), 1);
  EXPECT_EQ((*value->array())[1].number(), 2.5);
  EXPECT_EQ(*(*value->array())[3].string(), "x");
}

TEST(Json, NumbersRoundTrip) {
  std::mt19937_64 random(9);
  std::string text;
  for (int i = 0; i < 20000; ++i) {
    const double x = std::bit_cast<double>(random());
    text.clear();
    json::append_number(text, x);
    ASSERT_TRUE(test::same(number_in(text), x)) << text;
  }
  for (const double x : {0.0, -0.0, 1.0, 1e15, 1e16, 1e22, 1e300, 5e-324, 0.1, 123456789012345678.0}) {
    text.clear();
    json::append_number(text, x);
    EXPECT_TRUE(test::same(number_in(text), x)) << text;
    EXPECT_TRUE(nlohmann::json::accept(text)) << text;
  }
  text.clear();
  json::append_number(text, 1e-5);
  EXPECT_EQ(text, "1e-05");
}

TEST(Json, StringsRoundTripAndInvalidUtf8BecomesReplacementCharacters) {
  std::string text;
  json::append_string(text, "a\"b\\c\n\x01\xc3\xa9");
  EXPECT_EQ(text, "\"a\\\"b\\\\c\\u000a\\u0001\xc3\xa9\"");
  EXPECT_EQ(*parse(text)->string(), "a\"b\\c\n\x01\xc3\xa9");
  for (const char* bad : {"\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe0\x80\x80"}) {
    text.clear();
    json::append_string(text, bad);
    EXPECT_TRUE(nlohmann::json::accept(text)) << text;
    EXPECT_NE(text.find("\xef\xbf\xbd"), std::string::npos);
  }
}

bool equal(const Value& ours, const nlohmann::json& theirs) {
  if (theirs.is_object()) {
    if (!ours.object() || ours.object()->size() != theirs.size()) return false;
    for (const auto& [key, value] : theirs.items())
      if (!ours.find(key) || !equal(*ours.find(key), value)) return false;
    return true;
  }
  if (theirs.is_array()) {
    if (ours.numbers()) return theirs.get<std::vector<double>>() == *ours.numbers();
    if (!ours.array() || ours.array()->size() != theirs.size()) return false;
    for (std::size_t i = 0; i < theirs.size(); ++i)
      if (!equal((*ours.array())[i], theirs[i])) return false;
    return true;
  }
  if (theirs.is_string()) return ours.string() && *ours.string() == theirs.get<std::string>();
  if (theirs.is_boolean()) return ours.boolean() == theirs.get<bool>();
  if (theirs.is_null()) return std::holds_alternative<std::monostate>(ours.value);
  return ours.number() == theirs.get<double>();
}

nlohmann::json random_json(std::mt19937& random, int depth) {
  switch (random() % (depth > 4 ? 5 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<std::int64_t>(random()) - 2'000'000'000;
    case 3:
      return std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 200) - 100);
    case 4: {
      std::string text;
      for (auto n = random() % 6; n > 0; --n) text += static_cast<char>(random() % 127 + 1);
      return text;
    }
    case 5: {
      nlohmann::json array = nlohmann::json::array();
      for (auto n = random() % 5; n > 0; --n) array.push_back(random_json(random, depth + 1));
      return array;
    }
    default: {
      nlohmann::json object = nlohmann::json::object();
      for (auto n = random() % 5; n > 0; --n) object[std::to_string(random() % 50)] = random_json(random, depth + 1);
      return object;
    }
  }
}

// An independent implementation is the judge: the same documents, the same damaged documents.
TEST(Json, AgreesWithAnotherParserOnRandomDocuments) {
  std::mt19937 random(5);
  int damaged_but_valid = 0;
  for (int i = 0; i < 3000; ++i) {
    const nlohmann::json theirs = random_json(random, 0);
    std::string text = theirs.dump(random() % 2 == 0 ? -1 : 2);
    const auto ours = parse(text);
    ASSERT_TRUE(ours) << text << ours.error();
    ASSERT_TRUE(equal(*ours, theirs)) << text;
    if (text.empty()) continue;
    text[random() % text.size()] = static_cast<char>(random() % 95 + 32);
    const auto damaged = parse(text);
    const bool valid = nlohmann::json::accept(text);
    if (damaged) {
      ++damaged_but_valid;
      EXPECT_TRUE(valid) << text;
    } else if (valid) {  // stricter than they are only where a key comes twice
      EXPECT_NE(damaged.error().find("twice"), std::string::npos) << text << damaged.error();
    }
  }
  EXPECT_GT(damaged_but_valid, 100);
}

TEST(Json, WritesObjectsThatOthersRead) {
  std::string text;
  json::ObjectWriter object(text);
  object.field("a", 1).field("b", "x\"y").field("c", true).field("d", 0.1).field("e", std::vector<double>{1, -0.0, kInf});
  object.field("f", std::vector<std::int32_t>{}).field("g", std::vector<std::string>{"p", "q"});
  object.raw("h") += "{}";
  object.end();
  EXPECT_EQ(text, R"({"a":1,"b":"x\"y","c":true,"d":0.1,"e":[1,-0.0,"Infinity"],"f":[],"g":["p","q"],"h":{}})");
  EXPECT_TRUE(nlohmann::json::accept(text));
}

}  // namespace
}  // namespace greta
