// What runs where a build has other instruction sets than the machine: the first choice of a backend.
#include <stdexcept>
#include <string>

#include "check.hpp"
#include "isa/detect.hpp"
#include "isa/registry.hpp"

using namespace fusedrnn;

namespace {

std::string refusal(const std::vector<InstructionSet>& built, const char* wanted) {
  try {
    return std::string("took ") + first_backend(built, wanted).name;
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

void require_equal(const std::string& found, const std::string& expected) {
  check::require(found == expected, "found '%s', not '%s'", found.c_str(), expected.c_str());
}

}  // namespace

int main() {
  Backend slow = {}, fast = {};
  slow.name = "slow";
  fast.name = "fast";
  const std::vector<InstructionSet> all = {{&slow, true}, {&fast, true}}, some = {{&slow, true}, {&fast, false}};
  require_equal(first_backend(all, nullptr).name, "fast");
  require_equal(first_backend(all, "").name, "fast");
  require_equal(first_backend(all, "slow").name, "slow");
  require_equal(first_backend(some, nullptr).name, "slow");
  require_equal(refusal(some, "fast"),
                "FUSEDRNN_ISA is 'fast', which this machine cannot run; it must be one of slow, or unset for the best "
                "of them");
  require_equal(refusal({{&slow, false}, {&fast, false}}, nullptr),
                std::string("this build of fusedrnn has kernels for slow, fast, and this machine has ") +
                    cpu_instruction_sets() + ": build with FUSEDRNN_ISAS unset, or with scalar among them");
  return check::finish("test_registry");
}
