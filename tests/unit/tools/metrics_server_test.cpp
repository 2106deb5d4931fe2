#include "tools/metrics_server.h"

#include <catch2/catch.hpp>

using namespace lockstep::tools;

TEST_CASE("only GET /metrics of HTTP/1 is served") {
  const auto ask = [](std::string_view head) { return http_response(head, [] { return std::string("a 1\n"); }); };
  const std::string good = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(good.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  CHECK(good.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\na 1\n"));
  CHECK(ask("GET /metrics?a=b HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
  CHECK(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
  CHECK(ask("GET /metricsx HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
  CHECK(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
  for (const char* head :
       {"", "GET", "GET /metrics", "GET /metrics HTTP/2\r\n\r\n", "\r\n\r\n", " \r\n\r\n", "  \r\n\r\n"}) {
    INFO(head);
    CHECK(ask(head).starts_with("HTTP/1.1 400 "));
  }
}
