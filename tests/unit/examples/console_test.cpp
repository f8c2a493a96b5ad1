// SPDX-License-Identifier: MIT
/// What the example programs say: options, tables, progress, reports, sentences.
#include "catch.hpp"
#include "support/fail.hpp"
#include "support/options.hpp"
#include "support/progress.hpp"
#include "support/report.hpp"
#include "support/table.hpp"
#include <limits>

namespace rq = repquant;
namespace fs = std::filesystem;

namespace {

struct settings {
  std::string data = "here";
  int threads = 2;
  bool quick = false;
  std::vector<int> bits{8, 4};
  std::vector<std::string> recipes{"naive"};

  examples::options::outcome read(const std::vector<std::string_view>& arguments) {
    examples::options o("program", "Does something.");
    o.add("data", "DIR", "where the images are", data);
    o.add("threads", "N", "threads to use", threads, 1, 256);
    o.flag("quick", "fewer images", quick);
    o.add("bits", "LIST", "bit widths", bits, 2, 8);
    o.add("recipe", "LIST", "recipes", recipes, {"naive", "repq"});
    return o.read(arguments);
  }
};

/// What a progress object wrote.
template<class F>
std::string written(examples::plain_output otherwise, bool terminal, F&& f) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  {
    examples::progress bar(otherwise, file, terminal);
    f(bar);
  }
  std::rewind(file);
  std::string text(10000, ' ');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

}  // namespace

TEST_CASE("options: values reach their variables", "[examples]") {
  settings s;
  CHECK(s.read({}).proceed);
  CHECK(s.data == "here");
  CHECK(s.read({"--data", "a=b", "--threads=16", "--quick", "--bits=6,2", "--recipe", "repq,naive"}).proceed);
  CHECK(s.data == "a=b");
  CHECK(s.threads == 16);
  CHECK(s.quick);
  CHECK(s.bits == std::vector<int>{6, 2});
  CHECK(s.recipes == std::vector<std::string>{"repq", "naive"});
  CHECK(s.read({"--data=x=y", "--threads", "3", "--threads", "4"}).proceed);
  CHECK(s.data == "x=y");
  CHECK(s.threads == 4);
}

TEST_CASE("options: what is wrong is one sentence and code 2", "[examples]") {
  const std::vector<std::pair<std::vector<std::string_view>, std::string>> cases{
      {{"--dta", "x"}, "there is no option --dta"},
      {{"--dta=x"}, "there is no option --dta"},
      {{"--"}, "there is no option --"},
      {{"x"}, "argument \"x\" is not an option"},
      {{""}, "argument \"\" is not an option"},
      {{"-data"}, "argument \"-data\" is not an option"},
      {{"--data"}, "--data needs a value, DIR"},
      {{"--data="}, "--data is \"\", but must be a text"},
      {{"--quick=yes"}, "--quick takes no value"},
      {{"--threads", "0"}, "--threads is \"0\", but must be a whole number from 1 to 256"},
      {{"--threads", "2x"}, "--threads is \"2x\", but must be a whole number from 1 to 256"},
      {{"--threads=99999999999999999999"},
       "--threads is \"99999999999999999999\", but must be a whole number from 1 to 256"},
      {{"--bits", "8,,4"},
       "--bits is \"8,,4\", but must be a whole number from 2 to 8, or several with commas"},
      {{"--bits", "9"}, "--bits is \"9\", but must be a whole number from 2 to 8, or several with commas"},
      {{"--recipe", "best"}, "--recipe is \"best\", but must be of naive, repq"},
  };
  for (const auto& [arguments, text] : cases) {
    settings s;
    const examples::options::outcome o = s.read(arguments);
    CHECK_FALSE(o.proceed);
    CHECK(o.code == 2);
    CHECK(o.text == text + " (--help lists the options)");
    CHECK(s.bits == std::vector<int>{8, 4});
  }
}

TEST_CASE("options: help", "[examples]") {
  settings s;
  const examples::options::outcome o = s.read({"--quick", "--help"});
  CHECK_FALSE(o.proceed);
  CHECK(o.code == 0);
  CHECK(o.text ==
        "program: Does something.\n\n"
        "  --data DIR     where the images are [here]\n"
        "  --threads N    threads to use [2]\n"
        "  --quick        fewer images\n"
        "  --bits LIST    bit widths [8,4]\n"
        "  --recipe LIST  recipes: of naive, repq [naive]\n"
        "  --help         this text\n");
}

TEST_CASE("table: columns are aligned, by code points", "[examples]") {
  examples::table t({{"recipe", examples::align::left}, {"top-1 %"}, {"µs"}});
  t.rule();  // nothing above it
  t.row({"float", examples::fixed(88.65, 2), "1"});
  t.rule();
  t.rule();
  t.row({"naïve", examples::fixed(8.125, 2), examples::thousands(1234567)});
  t.row({"none"});
  t.rule();
  CHECK(t.text() ==
        "recipe  top-1 %         µs\n"
        "------  -------  ---------\n"
        "float     88.65          1\n"
        "------  -------  ---------\n"
        "naïve      8.12  1,234,567\n"
        "none\n");
}

TEST_CASE("table: numbers", "[examples]") {
  CHECK(examples::thousands(0) == "0");
  CHECK(examples::thousands(999) == "999");
  CHECK(examples::thousands(1000) == "1,000");
  CHECK(examples::thousands(-123456) == "-123,456");
  CHECK(examples::thousands(std::numeric_limits<std::int64_t>::min()) == "-9,223,372,036,854,775,808");
  CHECK(examples::fixed(std::numeric_limits<double>::quiet_NaN(), 2) == "-");
  CHECK(examples::fixed(std::numeric_limits<double>::max(), 2).size() == 312);
  CHECK(examples::fixed(-std::numeric_limits<double>::max(), 1000).size() == 328);  // 17 digits at most
  CHECK(examples::significant(-std::numeric_limits<double>::min(), 1000) == "-2.2250738585072014e-308");
  CHECK(examples::significant(0.00012345, 3) == "0.000123");
}

TEST_CASE("progress: a bar on a terminal, which is gone at the end", "[examples]") {
  const std::string text = written(examples::plain_output::quiet, true, [](examples::progress& bar) {
    bar.begin("calibrate");
    CHECK(bar(1, 2));
    CHECK(bar(2, 2));
    CHECK(bar(5, 0));
  });
  CHECK(text.find("\r[                              ]   0 % calibrate\x1b[K") == 0);
  CHECK(text.find("[==============================] 100 % calibrate\x1b[K") != std::string::npos);
  CHECK(text.ends_with("\r\x1b[K"));
  CHECK(text.find('\n') == std::string::npos);
}

TEST_CASE("progress: elsewhere nothing, or a line per task", "[examples]") {
  const auto two_tasks = [](examples::progress& bar) {
    for (const char* task : {"calibrate", "round"}) {
      bar.begin(task);
      for (int i = 0; i < 100; ++i) CHECK(bar(i, 100));
    }
  };
  CHECK(written(examples::plain_output::quiet, false, two_tasks).empty());
  CHECK(written(examples::plain_output::lines, false, two_tasks) == "calibrate\nround\n");
}

TEST_CASE("report: rows in the order they were written", "[examples]") {
  examples::report r;
  r.set("program", "p");
  r.row({{"network", "plain"}, {"top1", 88.65}, {"images", 2000}, {"bytes", std::int64_t{1} << 40U}});
  r.row({{"b", std::numeric_limits<double>::quiet_NaN()}, {"a", true}, {"c", "\xFF"}});
  const auto all = nlohmann::ordered_json::parse(r.text());
  CHECK(all.dump() ==
        R"({"program":"p","rows":[{"network":"plain","top1":88.65,"images":2000,"bytes":1099511627776},)"
        "{\"b\":null,\"a\":true,\"c\":\"\xEF\xBF\xBD\"}]}");
  CHECK(nlohmann::json::parse(examples::report().text()).dump() == R"({"rows":[]})");

  const auto ticks = std::chrono::steady_clock::now().time_since_epoch().count();
  const std::string path =
      (fs::temp_directory_path() / ("repquant-report-" + std::to_string(ticks))).string();
  REQUIRE_FALSE(r.write(path));
  const std::vector<std::byte> bytes = rq::read_file(path).value();
  CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == r.text());
  CHECK_FALSE(examples::check_writable(path));
  fs::remove(path);
  CHECK_FALSE(examples::check_writable(path));
  CHECK_FALSE(fs::exists(path));
  CHECK_FALSE(examples::check_writable("only-a-name.json"));
  CHECK(examples::check_writable(path + "/no/such").got == ENOENT);
  CHECK(r.write(path + "/no/such").got == ENOENT);
  CHECK(examples::check_writable(fs::temp_directory_path().string()).got == EISDIR);
}

TEST_CASE("fail: sentences", "[examples]") {
  CHECK(examples::sentence({rq::errc::io, "a/b", ENOENT}) == "a/b: No such file or directory");
  CHECK(examples::sentence({rq::errc::io, "a.gz: compressed"}) == "a.gz: compressed");
  CHECK(examples::sentence({rq::errc::empty, "w: head.weight", 0, 1}) == "w: head.weight: missing");
  CHECK(examples::sentence({rq::errc::shape_mismatch, "w: rows", 3, 4}) ==
        "w: rows: sizes do not agree (got 3, want 4)");
}
