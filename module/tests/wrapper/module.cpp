// A module that uses each part of hot_module.hpp: the path of a request says which. test.cpp drives it.
#include "hot_module.hpp"

#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>

using std::string_view_literals::operator""sv;

namespace {

constexpr std::size_t limit = 64;

// What a module of an event loop has: something that a wake may touch.
class Flag {
  public:
    void raise() {
        const std::lock_guard guard(lock_);
        is_up_ = true;
        changed_.notify_one();
    }
    void take() {
        std::unique_lock guard(lock_);
        changed_.wait(guard, [this] { return is_up_; });
        is_up_ = false;
    }

  private:
    std::mutex lock_;
    std::condition_variable changed_;
    bool is_up_ = false;
};

// Echoes without ever waiting in a service.
void echo_by_notice(hot::Exchange &exchange) {
    Flag flag;
    exchange.respond(200);
    auto [reader, writer] = exchange.split();
    for (;;) {
        const auto piece = reader.try_read();
        if (!piece) {
            exchange.notify(HOT_READABLE, [&flag] { flag.raise(); });
            flag.take();
            continue;
        }
        if (piece->empty())
            break;
        std::string_view rest = *piece;
        while (!rest.empty()) {
            const std::size_t written = writer.try_write(rest);
            rest.remove_prefix(written);
            if (written == 0) {
                exchange.notify(HOT_WRITABLE, [&flag] { flag.raise(); });
                flag.take();
            }
        }
    }
    exchange.finish();
}

// Events until it is asked to end; it waits for that in turns, as those do that have no event loop.
hot::Response events() {
    return hot::Response::stream([](hot::Reader &, hot::Writer &writer) {
               writer.write(writer.time_left() == std::chrono::nanoseconds::max() ? "data: 1\n\n" : "data: late\n\n");
               while (!writer.is_ending())
                   std::this_thread::sleep_for(std::chrono::milliseconds(1));
               writer.write(writer.time_left() < std::chrono::minutes(1) ? "event: bye\n\n" : "event: late\n\n");
           }).header("Content-Type", "text/Event-Stream;charset=utf-8");
}

// The same by a notice, with the exchange in another place than where it got its head.
void events_by_notice(hot::Exchange &exchange) {
    Flag flag;
    const bool was_ending = exchange.is_ending();
    exchange.respond(200, {{"x-other", "1"}, {"content-type", "text/event-stream"}});
    hot::Exchange moved = std::move(exchange);
    moved.write(was_ending || moved.is_ending() ? "data: ending\n\n" : "data: 1\n\n");
    moved.notify(HOT_ENDING, [&flag] { flag.raise(); });
    flag.take();
    moved.write(moved.is_ending() ? "event: bye\n\n" : "event: late\n\n");
    moved.finish();
}

hot::Response echo_of_connection(hot::Request &request) {
    if (request.header("upgrade") != "echo/1")
        throw hot::StatusError(400, "speak echo/1");
    return hot::Response::stream([](hot::Reader &reader, hot::Writer &writer) {
               for (const std::string_view piece : reader)
                   writer.write(piece);
           }).status(101).header("upgrade", "echo/1");
}

void describe(hot::Exchange &exchange) {
    std::string text = std::string(exchange.method()) + ' ' + std::string(exchange.target()) + ' ' +
                       std::string(exchange.path()) + ' ' + std::string(exchange.query().value_or("no query"sv)) + ' ' +
                       std::string(exchange.peer()) + '\n';
    for (const hot::Header header : exchange.headers())
        text += std::string(header.name()) + '=' + std::string(header.value()) + '\n';
    text += "accept: " + std::string(exchange.header("ACCEPT").value_or("none"sv)) + '\n';
    text += "name: " + exchange.param("name").value_or("none") + '\n';
    text += "bare: " + exchange.param("b c").value_or("none") + '\n';
    text += exchange.time_left() > std::chrono::seconds(1) ? "in time\n" : "late\n";
    const std::vector<hot::Header> headers{{"content-type", "text/plain"}, {"x-two", "2"}};
    exchange.reply(200, headers, text);
}

class Wrapper : public hot::RawModule {
  public:
    explicit Wrapper(const hot::Context &context) : config_(context.config()) {
        if (config_ == "fail")
            throw std::runtime_error("the config is bad");
        if (config_ == "int")
            throw 42;
    }

    void handle(hot::Exchange &&exchange) override {
        const std::string_view path = exchange.path();
        if (path == "/describe")
            return describe(exchange);
        if (path == "/status")
            throw hot::StatusError(404, "no such page");
        if (path == "/exception")
            throw std::runtime_error("the disk is gone");
        if (path == "/int")
            throw 42;
        if (path == "/drop")
            return;
        if (path == "/cut") {
            exchange.respond(200);
            exchange.write("half");
            throw std::runtime_error("half way");
        }
        if (path == "/abort")
            return exchange.abort("by hand");
        if (path == "/body") {
            hot::Request request(exchange);
            return exchange.reply(
                hot::Response::json(std::string(request.text(limit))).status(201).header("location", "/bodies/1"));
        }
        if (path == "/echo")
            return echo(exchange);
        if (path == "/notice")
            return echo_by_notice(exchange);
        if (path == "/stream")
            return exchange.reply(hot::Response::stream([](hot::Reader &, hot::Writer &writer) {
                                      for (int row = 0; row < 3; ++row)
                                          writer.write(std::to_string(row));
                                  }).trailer("x-rows", "3"));
        if (path == "/events")
            return exchange.reply(events());
        if (path == "/events/notice")
            return events_by_notice(exchange);
        if (path == "/not-events") {
            exchange.respond(200, {{"content-type", "text/plain"}});
            exchange.write(exchange.is_ending() || exchange.time_left() > std::chrono::hours(1) ? "odd" : "bounded");
            return exchange.finish();
        }
        if (path == "/connection") {
            hot::Request request(exchange);
            return exchange.reply(echo_of_connection(request));
        }
        if (path == "/elsewhere") {
            std::thread([moved = std::move(exchange)]() mutable { moved.reply(200, {}, "from elsewhere"); }).detach();
            return;
        }
        if (path == "/refused")
            return exchange.reply(700);
        if (path == "/twice") {
            exchange.reply(200);
            return exchange.reply(200);
        }
        if (path == "/gone")
            return wait_for_cancellation(exchange);
        if (path == "/metrics")
            return metrics(exchange);
        throw hot::StatusError(400, "what is this?");
    }

    void health() override {
        if (config_ == "sick")
            throw std::runtime_error("a cold, for the " + std::to_string(++checks_) + ". time");
    }

    void stop() override {
        hot::log(hot::Level::info, "stopped " + config_);
        if (config_ == "stop")
            throw std::runtime_error("can't stop");
    }

  private:
    static void echo(hot::Exchange &exchange) {
        exchange.respond(200, {{"content-type", "application/octet-stream"}});
        auto [reader, writer] = exchange.split();
        for (const std::string_view piece : reader)
            writer.write(piece);
        const hot::Headers trailers = reader.trailers();
        writer.trailers({{"x-sum", trailers.empty() ? "none"sv : trailers[0].value()}});
        exchange.finish();
    }

    static void wait_for_cancellation(hot::Exchange &exchange) {
        exchange.respond(200);
        exchange.write("well");
        try {
            while (!exchange.read().empty()) {}
        } catch (const hot::CallError &error) {
            hot::log(hot::Level::info, error.is_cancelled() ? "it was cancelled"sv : "something else"sv);
            throw;
        }
    }

    static void metrics(hot::Exchange &exchange) {
        static constexpr hot::Counter jobs("jobs_total");
        static constexpr hot::Gauge depth("depth");
        static constexpr hot::Histogram seconds("seconds");
        const bool kept = jobs.add(2, {{"kind", "b"}, {"code", "200"}}) && jobs.inc() && depth.set(7) && depth.set(5) &&
                          seconds.observe(0.25);
        exchange.reply(200, {}, kept ? "kept" : "no metrics");
    }

    std::string config_;
    int checks_ = 0;
};

} // namespace

HOT_MODULE(Wrapper, "wrapper", "1.0.0", "routes = [\"/\"]\n");
