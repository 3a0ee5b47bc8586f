#include "runtime/error.hpp"

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace fusedrnn {
namespace {

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace

void no_memory(const std::string& what, size_t bytes) {
  throw OutOfMemory(what + ": there is no memory for " + std::to_string(bytes) + " bytes");
}

void check(const Backend& backend, Status status, const char* call) {
  if (status == Status::ok) return;
  std::string reason = backend.status_text();
  if (status == Status::out_of_memory && reason == "no failure") reason = "out of memory";  // host_alloc keeps no text
  const std::string text = std::string(call) + " (" + backend.name + "): " + reason;
  if (status == Status::out_of_memory) throw OutOfMemory(text);
  if (status == Status::invalid_argument) throw std::invalid_argument(text);
  throw std::runtime_error(text);
}

}  // namespace fusedrnn
