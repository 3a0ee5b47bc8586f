// What backend/status.hpp keeps.
extern "C" void fusedrnn_set_failure(const char* text);
extern "C" const char* fusedrnn_failure();

namespace {

thread_local const char* last_failure = "no failure";

}  // namespace

extern "C" void fusedrnn_set_failure(const char* text) { last_failure = text; }
extern "C" const char* fusedrnn_failure() { return last_failure; }
