/*
 * Modules in C++17, on top of hot_module.h: a class with a constructor and `handle`, and one macro.
 *
 *     #include "hot_module.hpp"
 *
 *     class Hello : public hot::Module {
 *         hot::Response handle(hot::Request &request) override {
 *             return hot::Response::text("hello " + request.param("name").value_or("world") + '\n');
 *         }
 *     };
 *
 *     HOT_MODULE(Hello, "hello", "1.0.0", "routes = [\"/hello\"]\n");
 *
 * It owns what the contract (docs/abi.md) asks of C++: an exchange that is dropped is aborted, and an exception ends at
 * the boundary, as a 500 and a line in the log. It needs the standard library and exceptions, no RTTI. Names are those
 * of the Rust SDK where both have the thing.
 *
 * What the host lends (method, path, headers, bodies) is a std::string_view: it lives until the exchange has ended and
 * its `handle` has returned. Copy what must outlive that.
 */
#ifndef HOT_MODULE_HPP
#define HOT_MODULE_HPP

#include "hot_module.h"

#if !defined(__cpp_exceptions)
#error "hot_module.hpp reports errors as exceptions: build without -fno-exceptions, or use hot_module.h"
#endif
#if __cplusplus < 201703L
#error "hot_module.hpp needs C++17 or later: build with -std=c++17"
#endif

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <forward_list>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace hot {

/* Why the host refused a call: a status of hot_module.h other than HOT_OK. */
class CallError : public std::exception {
  public:
    explicit CallError(hot_status status) noexcept : status_(status) {}

    hot_status status() const noexcept { return status_; }

    /* The client is gone or the deadline has passed: nobody will see an answer, and there is no more to do. */
    bool is_cancelled() const noexcept { return status_ == HOT_CANCELLED; }

    const char *what() const noexcept override {
        switch (status_) {
        case HOT_ENDED: return "the exchange has ended";
        case HOT_STATE: return "the call is out of order: the head comes first and once";
        case HOT_INVALID: return "a status, header or argument that HTTP does not allow";
        case HOT_CANCELLED: return "the client is gone or the deadline has passed";
        case HOT_WOULD_BLOCK: return "the call would have to wait";
        case HOT_TOO_LARGE: return "larger than the limit";
        case HOT_NOT_FOUND: return "there is none of that name";
        default: return "the host does not serve the call";
        }
    }

  private:
    hot_status status_;
};

/* An error that knows its answer: thrown by a handler before the head is sent, the client gets this status, 200 to 599,
   and the message. Any other exception becomes a 500 that says nothing about the inside; its text goes to the log. */
class StatusError : public std::runtime_error {
  public:
    StatusError(unsigned status, const std::string &message) : std::runtime_error(message), status_(status) {}

    unsigned status() const noexcept { return status_; }

  private:
    unsigned status_;
};

namespace detail {

/* The host's table: set by start, before any other call. One process loads one module. */
__attribute__((visibility("hidden"))) inline const hot_host *host = nullptr;

inline hot_slice slice(std::string_view text) noexcept {
    return {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()};
}

inline std::string_view view(hot_slice slice) noexcept {
    return slice.len == 0 ? std::string_view() : std::string_view(reinterpret_cast<const char *>(slice.ptr), slice.len);
}

inline void check(hot_status status) {
    if (status != HOT_OK)
        throw CallError(status);
}

inline const hot_host &services() {
    if (host == nullptr)
        throw CallError(HOT_FAILED);
    return *host;
}

} // namespace detail

/* A header, trailer or label: name and value, borrowed. Names of a request are in lower case. */
class Header {
  public:
    Header(std::string_view name, std::string_view value) noexcept
        : raw_{detail::slice(name), detail::slice(value)} {}
    explicit Header(const hot_header &raw) noexcept : raw_(raw) {}

    std::string_view name() const noexcept { return detail::view(raw_.name); }
    std::string_view value() const noexcept { return detail::view(raw_.value); }

  private:
    hot_header raw_;
};

static_assert(sizeof(Header) == sizeof(hot_header) && std::is_standard_layout_v<Header>, "an array of one is of both");

/*
 * Headers in order: those of a request, or those to send. As an argument it takes a braced list or a vector of Header.
 * It borrows them, so don't keep one that was made from a list.
 */
class Headers {
  public:
    class Iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Header;
        using difference_type = std::ptrdiff_t;
        using pointer = const Header *;
        using reference = Header;

        explicit Iterator(const hot_header *at) noexcept : at_(at) {}
        Header operator*() const noexcept { return Header(*at_); }
        Iterator &operator++() noexcept { return ++at_, *this; }
        Iterator operator++(int) noexcept { return Iterator(at_++); }
        bool operator==(const Iterator &other) const noexcept { return at_ == other.at_; }
        bool operator!=(const Iterator &other) const noexcept { return at_ != other.at_; }

      private:
        const hot_header *at_;
    };

    Headers() noexcept = default;
    Headers(const hot_header *first, std::size_t count) noexcept : first_(first), count_(count) {}
    Headers(std::initializer_list<Header> list) noexcept : Headers(raw(list.begin()), list.size()) {}
    Headers(const std::vector<Header> &list) noexcept : Headers(raw(list.data()), list.size()) {}

    std::size_t size() const noexcept { return count_; }
    bool empty() const noexcept { return count_ == 0; }
    Header operator[](std::size_t index) const noexcept { return Header(first_[index]); }
    Iterator begin() const noexcept { return Iterator(first_); }
    Iterator end() const noexcept { return Iterator(count_ == 0 ? first_ : first_ + count_); }

    /* As the contract wants them. */
    const hot_header *data() const noexcept { return first_; }

  private:
    static const hot_header *raw(const Header *first) noexcept { return reinterpret_cast<const hot_header *>(first); }

    const hot_header *first_ = nullptr;
    std::size_t count_ = 0;
};

enum class Level : std::uint32_t {
    error = HOT_LOG_ERROR,
    warn = HOT_LOG_WARN,
    info = HOT_LOG_INFO,
    debug = HOT_LOG_DEBUG,
};

/* Writes one line to the module's log. Outside a host it does nothing. */
inline void log(Level level, std::string_view text) noexcept {
    if (detail::host != nullptr)
        detail::host->log(static_cast<std::uint32_t>(level), detail::slice(text));
}

/* The time by the host's clock; 1970 outside a host. */
inline std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds> now() noexcept {
    const auto since = detail::host == nullptr ? 0 : detail::host->now();
    return std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>(
        std::chrono::nanoseconds(static_cast<std::int64_t>(since)));
}

namespace detail {

inline bool metric(std::uint32_t kind, std::string_view name, double value, const Headers &labels) noexcept {
    return host != nullptr && HOT_HAS(hot_host, host, metric) &&
           host->metric(kind, slice(name), labels.data(), labels.size(), value) == HOT_OK;
}

} // namespace detail

/* What a module counts: constants with a name, as in `static constexpr hot::Counter requests("requests_total");`. Each
   call says whether the host took it: it refuses names and labels that are not allowed and more than 256 series, and an
   older one has no metrics at all. A module works on without. */
class Counter {
  public:
    constexpr explicit Counter(std::string_view name) noexcept : name_(name) {}
    bool inc(const Headers &labels = {}) const noexcept { return add(1, labels); }
    bool add(double value, const Headers &labels = {}) const noexcept {
        return detail::metric(HOT_COUNTER, name_, value, labels);
    }

  private:
    std::string_view name_;
};

class Gauge {
  public:
    constexpr explicit Gauge(std::string_view name) noexcept : name_(name) {}
    bool set(double value, const Headers &labels = {}) const noexcept {
        return detail::metric(HOT_GAUGE, name_, value, labels);
    }

  private:
    std::string_view name_;
};

class Histogram {
  public:
    constexpr explicit Histogram(std::string_view name) noexcept : name_(name) {}
    /* In seconds, or whatever the name says. */
    bool observe(double value, const Headers &labels = {}) const noexcept {
        return detail::metric(HOT_HISTOGRAM, name_, value, labels);
    }

  private:
    std::string_view name_;
};

namespace detail {

inline int hex(char digit) noexcept {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    const char lower = static_cast<char>(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* A part of a query as its sender meant it. A percent sign without two digits stays what it is. */
inline std::string decode(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size(); ++at) {
        const bool coded = text[at] == '%' && at + 2 < text.size() && hex(text[at + 1]) >= 0 && hex(text[at + 2]) >= 0;
        if (coded) {
            out.push_back(static_cast<char>(hex(text[at + 1]) * 16 + hex(text[at + 2])));
            at += 2;
        } else {
            out.push_back(text[at] == '+' ? ' ' : text[at]);
        }
    }
    return out;
}

/* The first value of that name in the query of a target, decoded. */
inline std::optional<std::string> param(std::optional<std::string_view> query, std::string_view name) {
    std::string_view rest = query.value_or(std::string_view());
    while (!rest.empty()) {
        const std::string_view pair = rest.substr(0, rest.find('&'));
        rest.remove_prefix(pair.size() == rest.size() ? rest.size() : pair.size() + 1);
        const auto equals = pair.find('=');
        if (!pair.empty() && decode(pair.substr(0, equals)) == name)
            return equals == std::string_view::npos ? std::string() : decode(pair.substr(equals + 1));
    }
    return std::nullopt;
}

} // namespace detail

namespace detail {

inline std::chrono::nanoseconds time_left(hot_exchange id) noexcept {
    std::uint64_t left = 0;
    if (host == nullptr || host->time_left(id, &left) != HOT_OK)
        return std::chrono::nanoseconds::zero();
    constexpr auto most = std::chrono::nanoseconds::max();
    return left < static_cast<std::uint64_t>(most.count()) ? std::chrono::nanoseconds(left) : most;
}

/* Whether two texts are the same but for the case of ASCII letters, of which the second has none in upper case. */
inline bool same(std::string_view text, std::string_view lower) noexcept {
    if (text.size() != lower.size())
        return false;
    for (std::size_t at = 0; at < text.size(); ++at)
        if ((text[at] >= 'A' && text[at] <= 'Z' ? text[at] - 'A' + 'a' : text[at]) != lower[at])
            return false;
    return true;
}

/* Whether an answer with that head has no deadline until it is asked to end (docs/abi.md, "The deadline"). */
inline bool is_long_stream(unsigned status, const Headers &headers) noexcept {
    if (status == 101)
        return true;
    for (const Header header : headers) {
        if (!same(header.name(), "content-type"))
            continue;
        std::string_view kind = header.value().substr(0, header.value().find(';'));
        kind.remove_prefix(std::min(kind.find_first_not_of(" \t"), kind.size()));
        kind = kind.substr(0, kind.find_last_not_of(" \t") + 1);
        return same(kind, "text/event-stream");
    }
    return false;
}

/* Only a long stream is asked to end, and by that it gets a deadline. */
inline bool is_ending(hot_exchange id, bool is_long) noexcept {
    return is_long && time_left(id) < std::chrono::nanoseconds::max();
}

} // namespace detail

/* The request's body, piece by piece; after a 101 what the client sends. Good for as long as its exchange is open. */
class Reader {
  public:
    explicit Reader(hot_exchange id) noexcept : id_(id) {}

    /* The next piece, empty at the end. Waits for it. It lives until the next read. Throws CallError. */
    std::string_view read() { return *read(0); }

    /* As `read` without waiting: nothing if no piece has come yet. */
    std::optional<std::string_view> try_read() { return read(HOT_NONBLOCK); }

    /* All that is left, at most `limit` bytes. It lives until the exchange has ended. */
    std::string_view read_all(std::size_t limit) {
        hot_slice out{};
        detail::check(detail::services().body_all(id_, limit, &out));
        return detail::view(out);
    }

    /* The request's trailers, after the end of its body. */
    Headers trailers() {
        const hot_header *first = nullptr;
        std::size_t count = 0;
        detail::check(detail::services().request_trailers(id_, &first, &count));
        return Headers(first, count);
    }

    /* So that `for (std::string_view piece : reader)` reads to the end. */
    class Iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = std::string_view;
        using difference_type = std::ptrdiff_t;
        using pointer = const std::string_view *;
        using reference = std::string_view;

        Iterator() noexcept = default;
        explicit Iterator(Reader *reader) : reader_(reader) { ++*this; }
        std::string_view operator*() const noexcept { return piece_; }
        Iterator &operator++() { return piece_ = reader_->read(), *this; }
        bool operator==(const Iterator &other) const noexcept { return piece_.empty() == other.piece_.empty(); }
        bool operator!=(const Iterator &other) const noexcept { return !(*this == other); }

      private:
        Reader *reader_ = nullptr;
        std::string_view piece_;
    };
    Iterator begin() { return Iterator(this); }
    Iterator end() noexcept { return Iterator(); }

  private:
    std::optional<std::string_view> read(std::uint32_t flags) {
        hot_slice out{};
        const hot_status status = detail::services().body_read(id_, flags, &out);
        if (status == HOT_WOULD_BLOCK)
            return std::nullopt;
        detail::check(status);
        return detail::view(out);
    }

    hot_exchange id_;
};

/* The answer's body, piece by piece, behind Exchange::respond. Good for as long as its exchange is open. */
class Writer {
  public:
    /* `is_long`: as Exchange::split says it, the answer is a long stream, which may be asked to end. */
    explicit Writer(hot_exchange id, bool is_long = false) noexcept : id_(id), is_long_(is_long) {}

    /* As those of Exchange; a Writer that was made before the head does not know that the answer is ending. */
    std::chrono::nanoseconds time_left() const noexcept { return detail::time_left(id_); }
    bool is_ending() const noexcept { return detail::is_ending(id_, is_long_); }

    /* A piece of the body, all of it. Waits while the client is slow. Throws CallError. */
    void write(std::string_view body) {
        detail::check(detail::services().body_write(id_, 0, detail::slice(body), nullptr));
    }

    /* Writes what there is room for, without waiting: how many bytes that was. */
    std::size_t try_write(std::string_view body) {
        std::size_t written = 0;
        const hot_status status = detail::services().body_write(id_, HOT_NONBLOCK, detail::slice(body), &written);
        if (status == HOT_WOULD_BLOCK)
            return 0;
        detail::check(status);
        return written;
    }

    /* Trailers, which travel with the end. At most once. */
    void trailers(const Headers &trailers) {
        detail::check(detail::services().trailers(id_, trailers.data(), trailers.size()));
    }

  private:
    hot_exchange id_;
    bool is_long_;
};

/* A response as a handler makes it: a status, headers, and a body that is whole or written piece by piece. */
class Response {
  public:
    using Stream = std::function<void(Reader &, Writer &)>;

    /* An empty one with that status, 200 to 599. */
    explicit Response(unsigned status) : status_(status) {}

    static Response text(std::string text) { return whole("text/plain; charset=utf-8", std::move(text)); }
    static Response html(std::string page) { return whole("text/html; charset=utf-8", std::move(page)); }
    static Response json(std::string json) { return whole("application/json", std::move(json)); }

    /* 200 with a body that `write` writes after the head has gone; it may read the request's body in turns. What it
       throws cuts the connection: the client sees that the body is not complete. With the content type
       text/event-stream it has no deadline, and looks at Writer::is_ending from time to time; with the status 101, for
       a request that has the header `upgrade`, both directions are the connection's bytes. */
    static Response stream(Stream write) {
        Response response(200);
        response.stream_ = std::move(write);
        return response;
    }

    /* With another status, one more header, this body, one more trailer. The host checks them when they are sent. */
    Response &&status(unsigned status) && { return std::move(set_status(status)); }
    Response &&header(std::string name, std::string value) && {
        return std::move(add_header(std::move(name), std::move(value)));
    }
    Response &&body(std::string body) && { return std::move(set_body(std::move(body))); }
    Response &&trailer(std::string name, std::string value) && {
        return std::move(add_trailer(std::move(name), std::move(value)));
    }

    /* The same for one that has a name. */
    Response &set_status(unsigned status) { return status_ = status, *this; }
    Response &add_header(std::string name, std::string value) {
        return headers_.emplace_back(std::move(name), std::move(value)), *this;
    }
    Response &set_body(std::string body) { return body_ = std::move(body), *this; }
    Response &add_trailer(std::string name, std::string value) {
        return trailers_.emplace_back(std::move(name), std::move(value)), *this;
    }

  private:
    friend class Exchange;
    using Fields = std::vector<std::pair<std::string, std::string>>;

    static Response whole(const char *type, std::string body) {
        return Response(200).header("content-type", type).body(std::move(body));
    }

    static std::vector<Header> borrow(const Fields &fields) {
        std::vector<Header> borrowed;
        borrowed.reserve(fields.size());
        for (const auto &[name, value] : fields)
            borrowed.emplace_back(name, value);
        return borrowed;
    }

    unsigned status_;
    Fields headers_;
    std::string body_;
    Stream stream_;
    Fields trailers_;
};

/*
 * One request and its response. It is moved, never copied, to any thread; `reply`, `finish` or `abort` ends it, and one
 * that is dropped before is aborted: the client gets 500. Once it has ended it is empty.
 */
class Exchange {
  public:
    /* Takes on the exchange that the host handed over. Nobody else may have. */
    explicit Exchange(hot_exchange id) noexcept : id_(id) {}
    Exchange(Exchange &&other) noexcept
        : id_(std::exchange(other.id_, 0)), has_head_(other.has_head_), is_long_(other.is_long_) {}
    Exchange &operator=(Exchange &&other) noexcept {
        if (this != &other) {
            drop();
            id_ = std::exchange(other.id_, 0);
            has_head_ = other.has_head_;
            is_long_ = other.is_long_;
        }
        return *this;
    }
    Exchange(const Exchange &) = delete;
    Exchange &operator=(const Exchange &) = delete;
    ~Exchange() { drop(); }

    /* The handle: a number that no other exchange of this process has. 0 once it has ended or was moved from. */
    hot_exchange id() const noexcept { return id_; }
    explicit operator bool() const noexcept { return id_ != 0; }

    std::string_view method() const noexcept { return text(&hot_host::method); }
    /* Path with query, as in "/greet?name=Ada". */
    std::string_view target() const noexcept { return text(&hot_host::target); }
    /* The client's address, as in "192.0.2.1:50000". */
    std::string_view peer() const noexcept { return text(&hot_host::peer); }
    /* The path as it was sent: percent signs are not decoded. */
    std::string_view path() const noexcept { return target().substr(0, target().find('?')); }
    /* What follows the question mark, if there is one. */
    std::optional<std::string_view> query() const noexcept {
        const std::string_view all = target();
        const auto mark = all.find('?');
        return mark == std::string_view::npos ? std::nullopt : std::optional(all.substr(mark + 1));
    }
    /* The first value of that name in the query, with %XX and + decoded. */
    std::optional<std::string> param(std::string_view name) const { return detail::param(query(), name); }

    Headers headers() const noexcept {
        const hot_header *first = nullptr;
        std::size_t count = 0;
        if (detail::host == nullptr || detail::host->headers(id_, &first, &count) != HOT_OK)
            return {};
        return Headers(first, count);
    }

    /* The first header of that name, in any case. */
    std::optional<std::string_view> header(std::string_view name) const noexcept {
        hot_slice out{};
        if (detail::host == nullptr || detail::host->header(id_, detail::slice(name), &out) != HOT_OK)
            return std::nullopt;
        return detail::view(out);
    }

    /* Until the deadline, as of now: it stands still while the exchange waits for its client. Zero when it has passed;
       the most that there is of a long stream (server-sent events, a connection after a 101) that has not been asked to
       end, and wherever else there is no deadline. */
    std::chrono::nanoseconds time_left() const noexcept { return detail::time_left(id_); }

    /* Whether the gateway asks for an end, as it asks long streams whose instance is replaced: write what is left, and
       finish within `time_left`. An answer that has a deadline is never asked. */
    bool is_ending() const noexcept { return detail::is_ending(id_, is_long_); }

    /* The head of the answer: status 200 to 599 and headers, once. The body follows by a Writer, then `finish`. With
       101, for a request that has the header `upgrade`, the connection's bytes follow in both directions. */
    void respond(unsigned status, const Headers &headers = {}) {
        detail::check(detail::services().respond(id_, status, headers.data(), headers.size()));
        has_head_ = true;
        is_long_ = detail::is_long_stream(status, headers);
    }

    /* Whether `respond` was called: what comes now can't change the status any more. */
    bool has_head() const noexcept { return has_head_; }

    /* Both directions, to read the body and write the answer in turns. */
    std::pair<Reader, Writer> split() noexcept { return {Reader(id_), Writer(id_, is_long_)}; }

    /* As the functions of Reader and Writer. */
    std::string_view read() { return Reader(id_).read(); }
    std::string_view read_all(std::size_t limit) { return Reader(id_).read_all(limit); }
    void write(std::string_view body) { Writer(id_).write(body); }

    /* The whole answer, and the end. If it throws a CallError, the exchange goes on, unless it was cancelled. */
    void reply(unsigned status, const Headers &headers = {}, std::string_view body = {}) {
        ended(detail::services().reply(id_, status, headers.data(), headers.size(), detail::slice(body)));
    }
    void reply(const Response &response) {
        if (!response.stream_ && response.trailers_.empty())
            return reply(response.status_, Response::borrow(response.headers_), response.body_);
        respond(response.status_, Response::borrow(response.headers_));
        auto [reader, writer] = split();
        if (response.stream_)
            response.stream_(reader, writer);
        else
            writer.write(response.body_);
        if (!response.trailers_.empty())
            writer.trailers(Response::borrow(response.trailers_));
        finish();
    }

    /* The end of a complete answer. */
    void finish() { ended(detail::services().finish(id_)); }

    /* The end without one: 500, or a cut connection if the head is under way. `why` goes to the log. */
    void abort(std::string_view why) noexcept {
        if (id_ != 0 && detail::host != nullptr)
            detail::host->abort(id_, detail::slice(why)); // its only refusals say that it has ended already
        id_ = 0;
    }

    /*
     * Calls `wake` once, on any thread, when one of the events (HOT_READABLE, HOT_WRITABLE, HOT_ENDING) is so or the
     * exchange is over. It must not wait, call the host or throw: it wakes an event loop. Throws CallError, also when
     * the host is too old to have it; then `wake` is never called.
     */
    void notify(std::uint32_t events, std::function<void()> wake) {
        const hot_host &host = detail::services();
        if (!HOT_HAS(hot_host, &host, notify))
            throw CallError(HOT_FAILED);
        auto context = std::make_unique<std::function<void()>>(std::move(wake));
        detail::check(host.notify(id_, events, woken, context.get()));
        static_cast<void>(context.release()); // `woken` has or will have deleted it
    }

  private:
    static void woken(void *context) noexcept {
        const std::unique_ptr<std::function<void()>> wake(static_cast<std::function<void()> *>(context));
        if (*wake)
            (*wake)();
    }

    std::string_view text(hot_status (*hot_host::*get)(hot_exchange, hot_slice *)) const noexcept {
        hot_slice out{};
        if (detail::host == nullptr || (detail::host->*get)(id_, &out) != HOT_OK)
            return {};
        return detail::view(out);
    }

    /* After a call that ends the exchange on success, and also when nobody will see the answer. */
    void ended(hot_status status) {
        if (status == HOT_OK || status == HOT_CANCELLED || status == HOT_ENDED)
            id_ = 0;
        detail::check(status);
    }

    void drop() noexcept {
        if (id_ != 0)
            abort("the exchange was dropped without an end");
    }

    hot_exchange id_;
    bool has_head_ = false;
    bool is_long_ = false;
};

/* A request: its head is read in place, its body when it is asked for. Good for as long as `handle` runs. */
class Request {
  public:
    explicit Request(Exchange &exchange) noexcept : exchange_(exchange) {}

    std::string_view method() const noexcept { return exchange_.method(); }
    std::string_view target() const noexcept { return exchange_.target(); }
    std::string_view path() const noexcept { return exchange_.path(); }
    std::optional<std::string_view> query() const noexcept { return exchange_.query(); }
    std::optional<std::string> param(std::string_view name) const { return exchange_.param(name); }
    std::string_view peer() const noexcept { return exchange_.peer(); }
    Headers headers() const noexcept { return exchange_.headers(); }
    std::optional<std::string_view> header(std::string_view name) const noexcept { return exchange_.header(name); }
    std::chrono::nanoseconds time_left() const noexcept { return exchange_.time_left(); }

    /* All of the body; beyond `limit` bytes the client gets 413. Waits for it. Throws StatusError and CallError. */
    std::string_view text(std::size_t limit) {
        try {
            return exchange_.read_all(limit);
        } catch (const CallError &error) {
            if (error.status() == HOT_TOO_LARGE)
                throw StatusError(413, "the body is larger than " + std::to_string(limit) + " bytes");
            throw;
        }
    }

    /* The body piece by piece. */
    Reader reader() noexcept { return exchange_.split().first; }

  private:
    Exchange &exchange_;
};

/* What a module gets at its start. */
class Context {
  public:
    explicit Context(std::string_view config) noexcept : config_(config) {}

    /* The release's config as it was pushed; empty if there is none. Lives as long as the process. */
    std::string_view config() const noexcept { return config_; }

  private:
    std::string_view config_;
};

namespace detail {

/* What both kinds of module have. */
class Life {
  public:
    Life() = default;
    Life(const Life &) = delete;
    Life &operator=(const Life &) = delete;
    virtual ~Life() = default;

    /* Throws if this instance can't serve; the text says why. Called every few seconds, beside `handle`. */
    virtual void health() {}

    /* The end: no exchange is left and none will come. Threads of the module end here. */
    virtual void stop() {}
};

} // namespace detail

/*
 * A module that answers requests. One object serves all of an instance. Its constructor takes a `const hot::Context &`
 * or nothing; the text of what it throws becomes the reason of the failed start. The destructor runs after `stop`.
 */
class Module : public detail::Life {
  public:
    /* Answers one request. Called from many threads at once; it may block. A StatusError becomes the answer; what else
       it throws is a 500 that tells the client nothing, and a line in the log. */
    virtual Response handle(Request &request) = 0;
};

/* A module at the level of the contract: it gets each exchange and ends it, here or later on any thread. */
class RawModule : public detail::Life {
  public:
    /* Answers one exchange, or moves it to a thread of the module's own that does. What it throws is as above. */
    virtual void handle(Exchange &&exchange) = 0;
};

namespace detail {

/* The functions behind a module's table. Nothing is thrown out of them. */
template <class M> class Entry {
    static constexpr bool is_raw = std::is_base_of_v<RawModule, M>;
    static_assert(std::is_base_of_v<Module, M> != is_raw, "the class derives from hot::Module or hot::RawModule");
    using Base = std::conditional_t<is_raw, RawModule, Module>; // its functions may be private in the class

  public:
    static hot_status start(const hot_host *table, hot_slice config, void **self, hot_slice *why) noexcept {
        return reported(why, reason_of_start, [&] {
            check_host(table);
            host = table;
            *self = new Entry(make(Context(view(config))));
        });
    }

    static void handle(void *self, hot_exchange id) noexcept {
        Exchange exchange(id);
        try {
            serve(*of(self).module_, exchange);
        } catch (const StatusError &error) {
            answer(exchange, error.status(), error.what(), error.what());
        } catch (const CallError &error) {
            if (error.is_cancelled()) // it is no fault of the module's, and nobody can be told anything
                exchange.abort("the client is gone");
            else
                answer(exchange, 500, failed, error.what());
        } catch (const std::exception &error) {
            answer(exchange, 500, failed, error.what());
        } catch (...) {
            answer(exchange, 500, failed, unknown);
        }
    }

    static hot_status health(void *self, hot_slice *why) noexcept {
        Entry &entry = of(self);
        return reported(why, [&](std::string text) -> const std::string & { return entry.health_ = std::move(text); },
                        [&] { entry.module_->health(); });
    }

    static void stop(void *self) noexcept {
        const std::unique_ptr<Entry> entry(static_cast<Entry *>(self));
        hot_slice why{};
        std::string kept;
        const auto keep = [&](std::string text) -> const std::string & { return kept = std::move(text); };
        if (reported(&why, keep, [&] { entry->module_->stop(); }) != HOT_OK)
            log(Level::error, view(why));
    }

  private:
    static constexpr const char *unknown = "something was thrown that is no std::exception";
    static constexpr const char *failed = "internal server error";

    explicit Entry(std::unique_ptr<Base> module) noexcept : module_(std::move(module)) {}

    static Entry &of(void *self) noexcept { return *static_cast<Entry *>(self); }

    static std::unique_ptr<Base> make(const Context &context) {
        if constexpr (std::is_constructible_v<M, const Context &>)
            return std::make_unique<M>(context);
        else
            return std::make_unique<M>();
    }

    /* The members that this header calls without asking are those that every host of this ABI has. */
    static void check_host(const hot_host *table) {
        if (table->abi != HOT_ABI)
            throw std::runtime_error("the host speaks another ABI than this module was built for (0)");
        if (!HOT_HAS(hot_host, table, abort))
            throw std::runtime_error("the host lacks services that this module was built for");
    }

    /* The text must live until the process ends, however often tests start. */
    static const std::string &reason_of_start(std::string text) {
        static std::forward_list<std::string> reasons;
        return reasons.emplace_front(std::move(text));
    }

    /* Does `act`; what it throws is kept and lent as `*why`. */
    template <class Keep, class Act> static hot_status reported(hot_slice *why, Keep &&keep, Act &&act) noexcept {
        try {
            act();
            return HOT_OK;
        } catch (const std::exception &error) {
            *why = slice(keep(error.what()));
        } catch (...) {
            *why = slice(keep(unknown));
        }
        return HOT_FAILED;
    }

    static void serve(RawModule &module, Exchange &exchange) { module.handle(std::move(exchange)); }
    static void serve(Module &module, Exchange &exchange) {
        Request request(exchange);
        exchange.reply(module.handle(request));
    }

    /* Logs what happened, and answers if that can still be done: with the head gone the connection is cut, and of an
       exchange that was moved elsewhere its new owner decides. */
    static void answer(Exchange &exchange, unsigned status, const char *message, const char *why) noexcept {
        try {
            if (!exchange || exchange.has_head()) {
                log(Level::error, std::string("the handler failed after it had begun: ") + why);
                return exchange.abort(why);
            }
            log(status >= 500 ? Level::error : Level::debug, "answered " + std::to_string(status) + ": " + why);
            exchange.reply(Response::text(std::string(message) + '\n').status(status));
        } catch (...) {
            exchange.abort(why); // the status is none, or memory has run out
        }
    }

    std::unique_ptr<Base> module_;
    std::string health_;
};

} // namespace detail

/* The table of a module. HOT_MODULE makes it the symbol `hot_module`. */
template <class M> constexpr hot_table table() noexcept {
    using Entry = detail::Entry<M>;
    return {HOT_ABI, sizeof(hot_table), Entry::start, Entry::handle, Entry::health, nullptr, nullptr, Entry::stop};
}

} // namespace hot

/* Makes a class what this shared object exports: its table, and its metadata from name, version and further lines of
   TOML, each ended by "\n" ("" for none). All three are literals. */
#define HOT_MODULE(type, name, version, lines)                                                                         \
    HOT_MODULE_METADATA(name, version, lines);                                                                         \
    HOT_EXPORT const hot_table hot_module = hot::table<type>()

#endif
