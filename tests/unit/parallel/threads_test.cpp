// SPDX-License-Identifier: MIT
#include <repquant/parallel/in_order.hpp>
#include <repquant/parallel/inline_executor.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include <atomic>
#include <numeric>
#include <vector>

namespace rq = repquant;

namespace {

template<rq::Executor E>
void runs_each_once(const E& exec) {
  for (rq::index n : {-3, 0, 1, 2, 7, 1000}) {
    std::vector<int> calls(static_cast<std::size_t>(n > 0 ? n : 0), 0);
    std::atomic<int> all{0};
    exec(n, [&](rq::index i) {
      calls[static_cast<std::size_t>(i)] +=
          1;  // plain: no two calls share a place, and joining makes them visible
      all += 1;
    });
    REQUIRE(all == static_cast<int>(calls.size()));
    for (int c : calls) REQUIRE(c == 1);
  }
}

}  // namespace

TEST_CASE("executors: every piece runs once, and its results are visible after") {
  runs_each_once(rq::inline_executor{});
  for (int count : {0, 1, 2, 5, 64}) runs_each_once(rq::threads{.count = count});
}

TEST_CASE("in_order: every part is made once and added in order") {
  for (int count : {1, 3}) {
    for (rq::index n : {-1, 0, 1, 16, 17, 40}) {
      std::vector<rq::index> added;
      rq::in_order<std::vector<rq::index>>(
          n, rq::threads{.count = count},
          [](rq::index i, std::vector<rq::index>& part) { part.assign(3, i); },
          [&](rq::index i, const std::vector<rq::index>& part) {
            CHECK(part == std::vector<rq::index>(3, i));
            added.push_back(i);
          });
      std::vector<rq::index> want(static_cast<std::size_t>(n > 0 ? n : 0));
      std::iota(want.begin(), want.end(), rq::index{0});
      CHECK(added == want);
    }
  }
}

TEST_CASE("threads: uses as many threads as asked for, the caller among them") {
  const rq::threads exec{.count = 3};
  std::atomic<int> waiting{0};
  std::vector<std::thread::id> ids(3);
  exec(3, [&](rq::index i) {
    ids[static_cast<std::size_t>(i)] = std::this_thread::get_id();
    ++waiting;
    while (waiting < 3) std::this_thread::yield();  // ends only when three run at once
  });
  std::sort(ids.begin(), ids.end());
  REQUIRE(std::unique(ids.begin(), ids.end()) == ids.end());
  REQUIRE(std::count(ids.begin(), ids.end(), std::this_thread::get_id()) == 1);
}

TEST_CASE("threads: nested calls work") {
  std::atomic<int> sum{0};
  const rq::threads exec{.count = 2};
  exec(4, [&](rq::index) { exec(5, [&](rq::index j) { sum += static_cast<int>(j); }); });
  REQUIRE(sum == 40);
}
