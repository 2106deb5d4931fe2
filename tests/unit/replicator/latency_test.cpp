#include "replicator/latency.h"

#include <catch2/catch.hpp>
#include <numeric>

using namespace lockstep::repl;

TEST_CASE("a latency is counted in the first bucket whose bound it does not exceed") {
  LatencyHistogram histogram;
  for (const uint64_t us : {0, 50, 51, 1'000, 5'000'000, 5'000'001}) histogram.record(us);
  CHECK(histogram.counts().front() == 2);
  CHECK(histogram.counts()[1] == 1);
  CHECK(histogram.counts()[4] == 1);
  CHECK(histogram.counts()[15] == 1);
  CHECK(histogram.counts().back() == 1);
  CHECK(histogram.count() == 6);
  CHECK(histogram.sum_us() == 10'001'102);
  CHECK(std::accumulate(histogram.counts().begin(), histogram.counts().end(), uint64_t{0}) == histogram.count());
}

TEST_CASE("a peer is timed by one write after another, and by none that a lost link carried") {
  PeerProbe probe;
  probe.write_sent(5, 1000);
  probe.write_sent(6, 1100);  // not timed: one is on its way
  probe.acknowledged(4, 1200);
  CHECK(probe.written().count() == 0);
  probe.acknowledged(6, 1300);
  CHECK(probe.written().count() == 1);
  CHECK(probe.written().sum_us() == 300);
  probe.write_sent(7, 2000);
  probe.link_lost();
  probe.acknowledged(7, 9000);
  CHECK(probe.written().count() == 1);
  probe.write_sent(1, 10'000);
  probe.acknowledged(1, 10'050);
  CHECK(probe.written().count() == 2);
}
