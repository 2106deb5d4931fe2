// write-manual FOLDER: puts the parts of the manual and the completion that are made of the program's tables into the
// files below FOLDER/tools (manual_text.h). For whoever changes a table; neither built nor installed with the rest.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tools/manual_text.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: write-manual FOLDER-OF-THE-SOURCES\n";
    return 2;
  }
  for (const auto& part : lockstep::tools::manual_parts()) {
    const std::filesystem::path path = std::filesystem::path(argv[1]) / "tools" / part.file;
    std::stringstream content;
    content << std::ifstream(path, std::ios::binary).rdbuf();
    const auto written = lockstep::tools::with_part(content.str(), part);
    if (!written) {
      std::cerr << "write-manual: " << written.error().message << "\n";
      return 1;
    }
    if (!(std::ofstream(path, std::ios::binary) << *written).flush()) {
      std::cerr << "write-manual: cannot write " << path << "\n";
      return 1;
    }
  }
  return 0;
}
