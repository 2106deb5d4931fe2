// audit: what operators did with a resource, on this node and on its peers.
#include <nlohmann/json.hpp>

#include "tools/audit_file.h"
#include "tools/audit_record.h"
#include "tools/lockstep_common.h"

namespace lockstep::tools {

using nlohmann::json;

ExitCode run_audit(const Arguments& arguments) {
  const Place place = place_of_configuration(arguments);
  json all = json::array();
  std::string text;
  for (const std::string& line : read_audit_lines(place.own_node().audit)) {
    const std::string rendered = render_audit_line(line);
    if (rendered.empty()) continue;
    text += rendered + "\n";
    all.push_back(json::parse(line, nullptr, false));
  }
  if (arguments.has("json")) {
    print_json(all);
  } else {
    print_text(text);
  }
  return ExitCode::Done;
}

}  // namespace lockstep::tools
