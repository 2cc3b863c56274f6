// module-name: answers /module-name with a greeting, and sends back what is posted to /module-name/echo.
#include "hot_module.hpp"

#include <stdexcept>
#include <string>
#include <string_view>

#define VERSION "0.1.0" // of the module: raise it for every push

namespace {

class App : public hot::Module {
  public:
    // The config is the greeting; without one it is "hello". What this throws becomes the reason of a push that fails.
    explicit App(const hot::Context &context) : greeting_(context.config().empty() ? "hello" : context.config()) {
        if (greeting_.find('\n') != std::string::npos)
            throw std::invalid_argument("the config is the greeting: found several lines, expected one");
        hot::log(hot::Level::info, "module-name " VERSION " starts");
    }

    // Called from many threads at once. An exception becomes a 500 and a line in the log.
    hot::Response handle(hot::Request &request) override {
        const std::string_view path = request.path();
        if (path == "/module-name")
            return greet(request);
        if (path == "/module-name/echo")
            return echo();
        throw hot::StatusError(404, "there is no such page");
    }

  private:
    hot::Response greet(const hot::Request &request) const {
        const std::string name = request.param("name").value_or("world");
        return hot::Response::text(greeting_ + ' ' + name + " from module-name " VERSION "\n");
    }

    // Piece by piece: never more than one is in memory.
    static hot::Response echo() {
        return hot::Response::stream([](hot::Reader &reader, hot::Writer &writer) {
            for (const std::string_view piece : reader)
                writer.write(piece);
        });
    }

    std::string greeting_;
};

} // namespace

HOT_MODULE(App, "module-name", VERSION, "routes = [\"/module-name\"]\n");
