// The texts of the tables of verbs and keys, for a terminal and for the manual. verbs.h says how they are written.
// Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep::tools {

// The text's words as help shows them, in paragraphs.
std::vector<std::vector<std::string>> plain_paragraphs(std::string_view text);
// Lines of at most `columns`, each behind `indent` blanks but the first, which stands behind `first`.
std::string fill_lines(const std::vector<std::string>& words, const std::string& first, size_t indent, size_t columns);

// As roff: bold and italic, lines of the source of at most 120 columns, paragraphs with `paragraph` between them.
std::string roff_text(std::string_view text, const std::string& paragraph);
// "\fB\-\-for\fP", "\fICONDITION\fP"
std::string roff_bold(std::string_view text);
std::string roff_italic(std::string_view text);

// "Print the version." of "print the version"
std::string as_sentence(std::string_view text);

}  // namespace lockstep::tools
