// A module in C++17:
//
//   GET  /hello-cpp?name=Ada   a greeting
//   POST /hello-cpp/json       {"method":"POST","bytes":11,"text":"what was sent"}
//   POST /hello-cpp/upper      sends the body back in capitals, piece by piece
//   GET  /hello-cpp/oops       what becomes of an exception
//
// The config is the name that is greeted when the request says none.
#include "hot_module.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

constexpr std::size_t largest_note = 64 * 1024;

// Text as a string of JSON.
std::string quoted(std::string_view text) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\')
            out += {'\\', c};
        else if (byte < 0x20)
            out += {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
        else
            out += c;
    }
    return out + '"';
}

class Hello : public hot::Module {
  public:
    // What this throws becomes the reason of a push that fails.
    explicit Hello(const hot::Context &context) : name_(context.config().empty() ? "world" : context.config()) {
        if (name_.find('\n') != std::string::npos)
            throw std::invalid_argument("the config is the name to greet: found several lines, expected one");
        hot::log(hot::Level::info, "hello-cpp 1.0.0 starts and greets " + name_);
    }

    hot::Response handle(hot::Request &request) override {
        const std::string_view path = request.path();
        if (path == "/hello-cpp")
            return greet(request);
        if (path == "/hello-cpp/json")
            return note(request);
        if (path == "/hello-cpp/upper")
            return upper();
        if (path == "/hello-cpp/oops") // the client gets 500 and reads nothing of this; the log does
            throw std::runtime_error("the database is gone");
        throw hot::StatusError(404, "there is no such page");
    }

  private:
    hot::Response greet(const hot::Request &request) const {
        static constexpr hot::Counter greetings("greetings_total");
        greetings.inc();
        return hot::Response::text("hello " + request.param("name").value_or(name_) + " from hello-cpp 1.0.0\n");
    }

    // A whole request, and a whole answer.
    static hot::Response note(hot::Request &request) {
        if (request.method() != "POST")
            throw hot::StatusError(405, "a note is to be posted");
        const std::string_view text = request.text(largest_note); // a larger one is answered with 413
        return hot::Response::json("{\"method\":" + quoted(request.method()) +
                                   ",\"bytes\":" + std::to_string(text.size()) + ",\"text\":" + quoted(text) + "}\n");
    }

    // Never more than one piece is in memory, however much comes.
    static hot::Response upper() {
        return hot::Response::stream([](hot::Reader &reader, hot::Writer &writer) {
            std::string capitals;
            for (const std::string_view piece : reader) {
                capitals.assign(piece);
                std::transform(capitals.begin(), capitals.end(), capitals.begin(),
                               [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
                writer.write(capitals);
            }
        });
    }

    std::string name_;
};

} // namespace

HOT_MODULE(Hello, "hello-cpp", "1.0.0", "routes = [\"/hello-cpp\"]\n");
