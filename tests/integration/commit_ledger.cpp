// A load of transactions on PostgreSQL whose clients write down, outside the database, each commit that was
// acknowledged to them; and the check that a database still has every one of them.
//
//   commit_ledger prepare --connection CONNINFO
//   commit_ledger load    --connection CONNINFO --ledger FOLDER [--clients N] [--seconds S]
//   commit_ledger verify  --connection CONNINFO --ledger FOLDER
//
// A client's ledger is FOLDER/client-N.ledger: one sequence number a line, appended after COMMIT was answered. Each
// transaction inserts (client, sequence, filler) and moves one unit between two accounts, so that half of a
// transaction shows as a sum that is not zero.
//
// load ends after the given time or, with exit status 0, when the server goes away: that is what it is for. verify
// exits with 1 when a commit is missing or a row is damaged, and names the commits on stderr.
#include <fcntl.h>
#include <libpq-fe.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr int kAccounts = 64;
constexpr int kLostCommitsNamed = 20;

struct Options {
  std::string verb;
  std::string connection;
  std::filesystem::path ledger;
  int clients = 8;
  int seconds = 0;  // 0: until the server goes away
};

using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;
using Answer = std::unique_ptr<PGresult, decltype(&PQclear)>;

Connection connect_to(const std::string& connection_text) {
  Connection connection(PQconnectdb(connection_text.c_str()), &PQfinish);
  if (PQstatus(connection.get()) != CONNECTION_OK) {
    throw std::runtime_error(std::string("cannot connect: ") + PQerrorMessage(connection.get()));
  }
  return connection;
}

Answer ask(PGconn* connection, const std::string& query) {
  return Answer(PQexec(connection, query.c_str()), &PQclear);
}

Answer ask_or_throw(PGconn* connection, const std::string& query) {
  Answer answer = ask(connection, query);
  const ExecStatusType status = PQresultStatus(answer.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
    throw std::runtime_error(query.substr(0, 60) + ": " + PQerrorMessage(connection));
  }
  return answer;
}

int64_t number_of(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw std::runtime_error("not a number: '" + std::string(text) + "'");
  }
  return number;
}

int64_t cell(const Answer& answer, int row, int column) {
  return number_of(PQgetvalue(answer.get(), row, column));
}

// Some 100 bytes that follow from the row's key, so that a damaged row shows.
std::string filler_of(int64_t client, int64_t sequence) {
  uint64_t state = static_cast<uint64_t>(client) * 0x9e3779b97f4a7c15U + static_cast<uint64_t>(sequence);
  std::string filler;
  while (filler.size() < 96) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    filler.push_back(static_cast<char>('a' + (state >> 33U) % 26));
  }
  return filler;
}

std::filesystem::path ledger_file(const Options& options, int64_t client) {
  return options.ledger / ("client-" + std::to_string(client) + ".ledger");
}

std::vector<int64_t> read_ledger(const std::filesystem::path& path) {
  std::vector<int64_t> sequences;
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) sequences.push_back(number_of(line));
  return sequences;
}

void prepare(const Options& options) {
  const Connection connection = connect_to(options.connection);
  ask_or_throw(connection.get(), "CREATE EXTENSION IF NOT EXISTS amcheck");
  ask_or_throw(connection.get(),
               "CREATE TABLE commit_ledger (client bigint, sequence bigint, filler text NOT NULL,"
               " PRIMARY KEY (client, sequence))");
  ask_or_throw(connection.get(), "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)");
  ask_or_throw(connection.get(),
               "INSERT INTO account SELECT id, 0 FROM generate_series(1, " + std::to_string(kAccounts) + ") AS id");
}

std::string transaction_of(int64_t client, int64_t sequence) {
  // The lower account first: no two clients can wait for each other.
  const int64_t lower = 1 + (client * 7 + sequence * 13) % (kAccounts - 1);
  const int64_t upper = lower + 1 + (sequence % (kAccounts - lower));
  return "BEGIN; INSERT INTO commit_ledger VALUES (" + std::to_string(client) + ", " + std::to_string(sequence) +
         ", '" + filler_of(client, sequence) +
         "'); UPDATE account SET balance = balance - 1 WHERE id = " + std::to_string(lower) +
         "; UPDATE account SET balance = balance + 1 WHERE id = " + std::to_string(upper) + "; COMMIT";
}

struct ClientResult {
  int64_t acknowledged = 0;
  std::string failure;  // empty when the time was up
};

void run_client(const Options& options, int client, const std::atomic<bool>& time_is_up, ClientResult& result) try {
  const Connection connection = connect_to(options.connection);
  const auto path = ledger_file(options, client);
  const std::vector<int64_t> earlier = read_ledger(path);
  const Answer highest =
      ask_or_throw(connection.get(),
                   "SELECT coalesce(max(sequence), 0) FROM commit_ledger WHERE client = " + std::to_string(client));
  int64_t sequence = std::max(cell(highest, 0, 0), earlier.empty() ? int64_t{0} : earlier.back());
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) throw std::runtime_error("cannot open " + path.string());
  while (!time_is_up) {
    ++sequence;
    const Answer answer = ask(connection.get(), transaction_of(client, sequence));
    // After an error the last statement answers ROLLBACK.
    if (PQresultStatus(answer.get()) != PGRES_COMMAND_OK || std::string_view(PQcmdStatus(answer.get())) != "COMMIT") {
      result.failure = PQerrorMessage(connection.get());
      break;
    }
    const std::string line = std::to_string(sequence) + "\n";
    if (write(file, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      close(file);
      throw std::runtime_error("cannot write " + path.string());
    }
    ++result.acknowledged;
  }
  close(file);
} catch (const std::exception& error) {
  result.failure = error.what();
}

int load(const Options& options) {
  std::filesystem::create_directories(options.ledger);
  std::vector<ClientResult> results(static_cast<size_t>(options.clients));
  std::atomic<bool> time_is_up = false;
  std::atomic<int> running = options.clients;
  {
    std::vector<std::jthread> clients;
    for (int client = 0; client < options.clients; ++client) {
      clients.emplace_back([&options, &time_is_up, &running, &results, client] {
        run_client(options, client, time_is_up, results[static_cast<size_t>(client)]);
        --running;
      });
    }
    const auto start = std::chrono::steady_clock::now();
    while (running > 0 && !time_is_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (options.seconds > 0 && std::chrono::steady_clock::now() - start > std::chrono::seconds(options.seconds)) {
        time_is_up = true;
      }
    }
  }
  int64_t acknowledged = 0;
  std::set<std::string> failures;
  for (const ClientResult& result : results) {
    acknowledged += result.acknowledged;
    if (!result.failure.empty()) failures.insert(result.failure);
  }
  for (const std::string& failure : failures) std::cerr << "commit_ledger: " << failure << "\n";
  std::cout << acknowledged << " commits acknowledged by " << options.clients << " clients\n";
  // Not one commit: the server was never there, and a check of this ledger would prove nothing.
  return acknowledged > 0 ? 0 : 1;
}

std::map<int64_t, std::set<int64_t>> read_ledgers(const Options& options) {
  std::map<int64_t, std::set<int64_t>> ledgers;
  for (const auto& entry : std::filesystem::directory_iterator(options.ledger)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("client-") || !name.ends_with(".ledger")) continue;
    const auto sequences = read_ledger(entry.path());
    const size_t prefix_length = std::string_view("client-").size();
    const int64_t client = number_of(name.substr(prefix_length, name.find('.') - prefix_length));
    ledgers[client].insert(sequences.begin(), sequences.end());
  }
  return ledgers;
}

int verify(const Options& options) {
  const auto ledgers = read_ledgers(options);
  int64_t acknowledged = 0;
  for (const auto& [client, sequences] : ledgers) acknowledged += static_cast<int64_t>(sequences.size());
  if (acknowledged == 0) throw std::runtime_error("the ledger in " + options.ledger.string() + " is empty");

  const Connection connection = connect_to(options.connection);
  int64_t lost = 0;
  int64_t damaged = 0;
  int64_t unacknowledged = 0;
  for (const auto& [client, sequences] : ledgers) {
    // Without the index: the heap is what counts here, pg_amcheck compares the two.
    ask_or_throw(connection.get(), "SET enable_indexscan = off; SET enable_bitmapscan = off");
    const Answer rows = ask_or_throw(
        connection.get(), "SELECT sequence, filler FROM commit_ledger WHERE client = " + std::to_string(client));
    std::set<int64_t> found;
    for (int row = 0; row < PQntuples(rows.get()); ++row) {
      const int64_t sequence = cell(rows, row, 0);
      const bool is_new = found.insert(sequence).second;
      if (!is_new || PQgetvalue(rows.get(), row, 1) != filler_of(client, sequence)) {
        std::cerr << "damaged row: client " << client << " sequence " << sequence << "\n";
        ++damaged;
      }
      if (!sequences.contains(sequence)) ++unacknowledged;
    }
    for (const int64_t sequence : sequences) {
      if (found.contains(sequence)) continue;
      if (++lost <= kLostCommitsNamed) {
        std::cerr << "lost commit: client " << client << " sequence " << sequence << "\n";
      }
    }
  }
  const Answer sum = ask_or_throw(connection.get(), "SELECT sum(balance) FROM account");
  if (const int64_t balance = cell(sum, 0, 0); balance != 0) {
    std::cerr << "the accounts' sum is " << balance << ": a transaction was applied in part\n";
    ++damaged;
  }
  std::cout << acknowledged << " acknowledged commits, " << lost << " lost, " << damaged << " damaged, "
            << unacknowledged << " found that were committed and not yet acknowledged\n";
  return lost == 0 && damaged == 0 ? 0 : 1;
}

Options read_options(const std::vector<std::string>& arguments) {
  Options options;
  if (arguments.empty()) throw std::invalid_argument("a verb is missing: prepare, load or verify");
  options.verb = arguments[0];
  for (size_t index = 1; index < arguments.size(); index += 2) {
    const std::string& name = arguments[index];
    if (index + 1 == arguments.size()) throw std::invalid_argument(name + " needs a value");
    const std::string& value = arguments[index + 1];
    if (name == "--connection") {
      options.connection = value;
    } else if (name == "--ledger") {
      options.ledger = value;
    } else if (name == "--clients") {
      options.clients = static_cast<int>(number_of(value));
    } else if (name == "--seconds") {
      options.seconds = static_cast<int>(number_of(value));
    } else {
      throw std::invalid_argument("unknown option " + name);
    }
  }
  if (options.clients < 1 || options.clients > 256) throw std::invalid_argument("--clients takes 1 to 256");
  return options;
}

int run(const Options& options) {
  if (options.verb == "prepare") return prepare(options), 0;
  if (options.verb == "load") return load(options);
  if (options.verb == "verify") return verify(options);
  throw std::invalid_argument("unknown verb " + options.verb);
}

}  // namespace

int main(int argument_count, char** arguments) try {
  return run(read_options({arguments + 1, arguments + argument_count}));
} catch (const std::invalid_argument& error) {
  std::cerr << "commit_ledger: " << error.what() << "\n";
  return 2;
} catch (const std::exception& error) {
  std::cerr << "commit_ledger: " << error.what() << "\n";
  return 1;
}
