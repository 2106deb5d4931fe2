#include "tools/marked_text.h"

#include <algorithm>
#include <cctype>

namespace lockstep::tools {
namespace {

constexpr size_t kSourceColumns = 120;

enum class Mark { None, Code, Value };

struct Span {
  Mark mark = Mark::None;
  std::string text;
  char next = '\0';  // what stands behind it
};

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// The end of the mark that opens at `begin`; npos when none does.
size_t end_of_mark(std::string_view text, size_t begin) {
  if (text[begin] == '`') return text.find('`', begin + 1);
  if (text[begin] != '_' || (begin > 0 && is_word_character(text[begin - 1]))) return std::string_view::npos;
  for (size_t at = begin + 1; at < text.size(); ++at) {
    if (text[at] == '_' && (at + 1 == text.size() || !is_word_character(text[at + 1]))) return at;
  }
  return std::string_view::npos;
}

std::vector<Span> spans_of(std::string_view text) {
  std::vector<Span> spans(1);
  for (size_t at = 0; at < text.size(); ++at) {
    const size_t end = end_of_mark(text, at);
    if (end == std::string_view::npos) {
      spans.back().text += text[at];
      continue;
    }
    spans.push_back({text[at] == '`' ? Mark::Code : Mark::Value, std::string(text.substr(at + 1, end - at - 1)),
                     end + 1 < text.size() ? text[end + 1] : '\0'});
    spans.emplace_back();
    at = end;
  }
  return spans;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  bool within = false;
  for (const char c : text) {
    const bool blank = c == ' ' || c == '\n';
    if (!blank && !within) words.emplace_back();
    if (!blank) words.back() += c;
    within = !blank;
  }
  return words;
}

std::vector<std::string_view> paragraphs_of(std::string_view text) {
  std::vector<std::string_view> paragraphs;
  while (!text.empty()) {
    const size_t end = text.find("\n\n");
    paragraphs.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 2);
  }
  return paragraphs;
}

// Options, variables and the names of manual pages are told from words without quotes.
std::string plain(const Span& span) {
  if (span.mark != Mark::Code || span.next == '(' || span.text[0] == '-' || span.text[0] == '$') return span.text;
  return "'" + span.text + "'";
}

std::string escaped(std::string_view text, bool literal) {
  std::string roff;
  for (const char c : text) {
    if (c == '\\') {
      roff += "\\e";
    } else if (c == '-' && literal) {
      roff += "\\-";  // so that it can be copied from the page
    } else {
      roff += c;
    }
  }
  return roff;
}

// Words of these are not divided at the end of a line.
std::string roff(const Span& span) {
  if (span.mark == Mark::None) return escaped(span.text, false);
  std::string text;
  for (const std::string& word : words_of(span.text)) text += (text.empty() ? "\\%" : " \\%") + escaped(word, true);
  return (span.mark == Mark::Code ? "\\fB" : "\\fI") + text + "\\fP";
}

template <typename Render>
std::string rendered(std::string_view paragraph, Render render) {
  std::string text;
  for (const Span& span : spans_of(paragraph)) text += render(span);
  return text;
}

}  // namespace

std::vector<std::vector<std::string>> plain_paragraphs(std::string_view text) {
  std::vector<std::vector<std::string>> paragraphs;
  for (const std::string_view paragraph : paragraphs_of(text)) {
    paragraphs.push_back(words_of(rendered(paragraph, plain)));
  }
  return paragraphs;
}

std::string fill_lines(const std::vector<std::string>& words, const std::string& first, size_t indent, size_t columns) {
  std::string text;
  std::string line = first;
  bool has_words = false;
  for (const std::string& word : words) {
    if (has_words && line.size() + 1 + word.size() > columns) {
      text += line + "\n";
      line = std::string(indent, ' ');
      has_words = false;
    }
    line += (has_words ? " " : "") + word;
    has_words = true;
  }
  return text + line + "\n";
}

std::string roff_text(std::string_view text, const std::string& paragraph) {
  std::string page;
  for (const std::string_view each : paragraphs_of(text)) {
    std::vector<std::string> words = words_of(rendered(each, roff));
    // At the beginning of a line these would be a request.
    for (std::string& word : words) {
      if (word[0] == '.' || word[0] == '\'') word.insert(0, "\\&");
    }
    if (!page.empty()) page += paragraph + "\n";
    page += fill_lines(words, "", 0, kSourceColumns);
  }
  return page;
}

std::string roff_bold(std::string_view text) {
  return "\\fB" + escaped(text, true) + "\\fP";
}

std::string roff_italic(std::string_view text) {
  return "\\fI" + escaped(text, true) + "\\fP";
}

std::string as_sentence(std::string_view text) {
  std::string sentence(text);
  if (sentence.empty()) return sentence;
  sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
  if (sentence.back() != '.') sentence += '.';
  return sentence;
}

}  // namespace lockstep::tools
