#include "nbd-server/meta_context.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "io/base/bytes.h"

namespace lockstep::nbd {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr MetaContextSet kBoth{MetaContext::Allocation, MetaContext::Dirty};

Bytes data_of(std::string_view name, const std::vector<std::string>& queries) {
  Bytes bytes(8 + name.size());
  for (const std::string& query : queries) bytes.resize(bytes.size() + 4 + query.size());
  BigWriter writer(bytes);
  writer.u32(static_cast<uint32_t>(name.size()));
  writer.text(name);
  writer.u32(static_cast<uint32_t>(queries.size()));
  for (const std::string& query : queries) {
    writer.u32(static_cast<uint32_t>(query.size()));
    writer.text(query);
  }
  return bytes;
}

}  // namespace

TEST_CASE("which contexts a query names") {
  struct Row {
    const char* query;
    MetaContextSet listed;
    MetaContextSet selected;
  };
  const auto row = GENERATE(values<Row>({
      {"base:allocation", {MetaContext::Allocation}, {MetaContext::Allocation}},
      {"lockstep:dirty", {MetaContext::Dirty}, {MetaContext::Dirty}},
      {"base:", {MetaContext::Allocation}, {}},
      {"lockstep:", {MetaContext::Dirty}, {}},
      {"base:allocation2", {}, {}},
      {"base:alloc", {}, {}},
      {"qemu:dirty-bitmap:x", {}, {}},
      {"x-anything:", {}, {}},
      {"base", {}, {}},
      {"", {}, {}},
  }));
  INFO(row.query);
  CHECK(matching_contexts(row.query, kBoth, true) == row.listed);
  CHECK(matching_contexts(row.query, kBoth, false) == row.selected);
  CHECK(matching_contexts(row.query, {}, true).empty());
}

TEST_CASE("the option's data, whole and damaged") {
  const Bytes whole = data_of("pgdata", {"base:allocation", "", "lockstep:"});
  const auto request = decode_meta_context_request(whole);
  REQUIRE(request.has_value());
  CHECK(request->export_name == "pgdata");
  REQUIRE(request->queries.size() == 3);
  CHECK(request->queries[0] == "base:allocation");
  CHECK(request->queries[1].empty());
  for (size_t length = 0; length < whole.size(); ++length) {
    CHECK_FALSE(decode_meta_context_request(std::span(whole).first(length)).has_value());
  }
  Bytes longer = whole;
  longer.push_back(0);
  CHECK_FALSE(decode_meta_context_request(longer).has_value());
  CHECK_FALSE(decode_meta_context_request(data_of("pgdata", {std::string(4097, 'a')})).has_value());
  // A count that cannot be true.
  CHECK_FALSE(decode_meta_context_request(Bytes{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}).has_value());
}

TEST_CASE("ids are those of the contexts") {
  CHECK(context_of_id(id_of(MetaContext::Allocation)) == MetaContext::Allocation);
  CHECK(context_of_id(id_of(MetaContext::Dirty)) == MetaContext::Dirty);
  CHECK_FALSE(context_of_id(0).has_value());
  CHECK_FALSE(context_of_id(3).has_value());
  CHECK_FALSE(context_of_id(UINT32_MAX).has_value());
}

}  // namespace lockstep::nbd
