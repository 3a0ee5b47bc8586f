// cuBLASLt, opened at run time. A failure of any kind leaves products to our own kernels.
//
// Its matrices are column-major: a row-major C (M, N) is its D (N, M), so that our B is its A and the other way round.
// Only algorithms that sum each element in one piece, without workspace, are asked for: no reduction whose order could
// differ from run to run.
#include "products/cublaslt.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <tuple>

#include "products/cublaslt_abi.hpp"

namespace fusedrnn::cuda::cublaslt {
namespace {

constexpr int64_t kLeastWork = int64_t{1} << 26;  // multiplications that are worth the calls
constexpr uint32_t kLeastAlignment = 16, kMostAlignment = 256;
constexpr size_t kMostPlans = 256;

struct Library {
  Functions functions = {};
  bool usable = false;
  std::string state;
};

struct Opened {
  void* handle = nullptr;
  std::string path;
};

// The folder above that of this plugin: where a pip package's neighbours are.
std::string site_packages() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&state), &info) == 0 || info.dli_fname == nullptr) return "..";
  std::string path = info.dli_fname;
  for (int up = 0; up < 2; ++up) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return "..";
    path.resize(slash);
  }
  return path;
}

Opened open_any() {
  const std::string names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
  for (const std::string& name : names)
    if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD)) return {handle, name + " of this process"};
  const std::string packages = site_packages() + "/nvidia/";
  for (const std::string& path :
       {packages + "cu13/lib/" + names[0], packages + "cublas/lib/" + names[1], names[0], names[1]})
    if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return {handle, path};
  return {};
}

// The name of the first function that is missing, or nullptr.
const char* load(void* library, Functions& f) {
  const struct {
    const char* name;
    void* to;
  } wanted[] = {{"cublasLtGetVersion", &f.version},
                {"cublasLtCreate", &f.create},
                {"cublasLtMatmulDescCreate", &f.operation_create},
                {"cublasLtMatmulDescSetAttribute", &f.operation_set},
                {"cublasLtMatmulDescDestroy", &f.operation_destroy},
                {"cublasLtMatrixLayoutCreate", &f.layout_create},
                {"cublasLtMatrixLayoutDestroy", &f.layout_destroy},
                {"cublasLtMatmulPreferenceCreate", &f.preference_create},
                {"cublasLtMatmulPreferenceSetAttribute", &f.preference_set},
                {"cublasLtMatmulPreferenceDestroy", &f.preference_destroy},
                {"cublasLtMatmulAlgoGetHeuristic", &f.heuristic},
                {"cublasLtMatmul", &f.matmul}};
  for (const auto& function : wanted) {
    void* const found = dlsym(library, function.name);
    if (!found) return function.name;
    std::memcpy(function.to, &found, sizeof found);
  }
  return nullptr;
}

Library open() {
  Library library;
  const char* asked = std::getenv("FUSEDRNN_CUBLASLT");
  const std::string wanted = asked ? asked : "";
  if (wanted.empty() || wanted == "0") {
    library.state = "own kernels for all products";
    return library;
  }
  Opened opened;
  if (wanted == "1")
    opened = open_any();
  else
    opened = {dlopen(wanted.c_str(), RTLD_NOW | RTLD_LOCAL), wanted};
  if (!opened.handle) {
    const char* error = wanted == "1" ? nullptr : dlerror();
    library.state = "own kernels for all products (cuBLASLt: " + std::string(error ? error : "none found") + ")";
    return library;
  }
  if (const char* missing = load(opened.handle, library.functions)) {
    library.state = "own kernels for all products (cuBLASLt: " + opened.path + " lacks " + missing + ")";
    return library;
  }
  library.usable = true;
  library.state =
      "cuBLASLt " + std::to_string(library.functions.version()) + " for large products (" + opened.path + ")";
  return library;
}

// Never destroyed: other objects may still compute while the process ends.
const Library& library() {
  static const Library& opened = *new Library(open());
  return opened;
}

// ----------------------------------------------------------------------------------------------------------- plans
struct Plan {
  bool usable = false;
  Operation operation = nullptr;
  Layout a = nullptr, b = nullptr, d = nullptr;
  Algorithm algorithm = {};
};

uint32_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t lowest = address & (~address + 1);
  return lowest == 0 || lowest > kMostAlignment ? kMostAlignment : static_cast<uint32_t>(lowest);
}

// Everything that a plan depends on.
using Key = std::tuple<int32_t, Element, GemmKind, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, uint32_t,
                       uint32_t, uint32_t, bool, bool>;

Key key_of(int32_t device, Element e, const Product& p) {
  return {device,
          e,
          p.kind,
          p.M,
          p.N,
          p.K,
          p.lda,
          p.ldb,
          p.ldc,
          alignment_of(p.a),
          alignment_of(p.b),
          alignment_of(p.c),
          p.bias != nullptr,
          p.accumulate != 0};
}

Type type_of(Element e) {
  switch (e) {
    case Element::f64:
      return Type::r64f;
    case Element::bf16:
      return Type::r16bf;
    case Element::fp16:
      return Type::r16f;
    case Element::f32:
    case Element::tf32:
    case Element::tf32x3:
      break;
  }
  return Type::r32f;
}

Compute compute_of(Element e) {
  switch (e) {
    case Element::f64:
      return Compute::f64;
    case Element::f32:
      return Compute::f32_pedantic;  // as it says: no narrower arithmetic in place of float32's
    case Element::tf32:
      return Compute::f32_fast_tf32;
    case Element::bf16:
    case Element::fp16:
    case Element::tf32x3:
      break;
  }
  return Compute::f32;
}

class Plans {
 public:
  explicit Plans(const Functions& functions) : f_(functions) {}

  bool run(Element e, const Product& p, Stream stream) {
    int32_t device = 0;
    if (hw::current_device(&device) != Status::ok) return false;
    const hw::Relaxed relaxed;  // a handle has memory of the device, and the first call may come in a capture
    const std::lock_guard<std::mutex> lock(mutex_);
    Handle& handle = handles_[device];
    if (!handle && f_.create(&handle) != 0) handle = nullptr;
    if (!handle) return false;
    const Key key = key_of(device, e, p);
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      if (plans_.size() == kMostPlans) forget();
      found = plans_.emplace(key, Plan()).first;
      found->second.usable = make(handle, e, p, found->second);
    }
    const Plan& plan = found->second;
    return plan.usable && launch(handle, plan, e, p, stream);
  }

 private:
  bool set(Operation operation, OperationAttribute attribute, uint32_t value) const {
    return f_.operation_set(operation, attribute, &value, sizeof value) == 0;
  }

  bool make(Handle handle, Element e, const Product& p, Plan& plan) const {
    const Type type = type_of(e), sum = e == Element::f64 ? Type::r64f : Type::r32f;
    // Row-major B (N, K) is column-major (K, N) and has to be turned; B (K, N) is (N, K) as wanted. A likewise.
    const bool turn_b = p.kind == GemmKind::nt, turn_a = p.kind == GemmKind::tn;
    const auto layout = [&](Layout& to, Type of, int64_t rows, int64_t columns, int64_t ld) {
      return f_.layout_create(&to, of, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld) == 0;
    };
    return f_.operation_create(&plan.operation, compute_of(e), sum) == 0 &&
           set(plan.operation, OperationAttribute::transpose_a, turn_b) &&
           set(plan.operation, OperationAttribute::transpose_b, turn_a) &&
           (!p.bias || (set(plan.operation, OperationAttribute::epilogue, kEpilogueBias) && set_bias(plan, p))) &&
           layout(plan.a, type, turn_b ? p.K : p.N, turn_b ? p.N : p.K, p.ldb) &&
           layout(plan.b, type, turn_a ? p.M : p.K, turn_a ? p.K : p.M, p.lda) &&
           layout(plan.d, sum, p.N, p.M, p.ldc) && choose(handle, p, plan);
  }

  bool set_bias(const Plan& plan, const Product& p) const {
    return f_.operation_set(plan.operation, OperationAttribute::bias, &p.bias, sizeof p.bias) == 0;
  }

  bool choose(Handle handle, const Product& p, Plan& plan) const {
    Preference preference = nullptr;
    if (f_.preference_create(&preference) != 0) return false;
    const auto prefer = [&](PreferenceAttribute attribute, uint32_t value) {
      return f_.preference_set(preference, attribute, &value, sizeof value) == 0;
    };
    Heuristic heuristic = {};
    int count = 0;
    const bool found =
        prefer(PreferenceAttribute::reduction_schemes, 0) &&
        prefer(PreferenceAttribute::alignment_a, alignment_of(p.b)) &&
        prefer(PreferenceAttribute::alignment_b, alignment_of(p.a)) &&
        prefer(PreferenceAttribute::alignment_c, alignment_of(p.c)) &&
        prefer(PreferenceAttribute::alignment_d, alignment_of(p.c)) &&
        f_.heuristic(handle, plan.operation, plan.a, plan.b, plan.d, plan.d, preference, 1, &heuristic, &count) == 0 &&
        count > 0 && heuristic.state == 0 && heuristic.workspace == 0;
    f_.preference_destroy(preference);
    plan.algorithm = heuristic.algorithm;
    return found;
  }

  bool launch(Handle handle, const Plan& plan, Element e, const Product& p, Stream stream) const {
    return hw::call_library(stream, [this, handle, plan, e, p, stream] {
      if (p.bias && !set_bias(plan, p)) return false;
      const double one = 1, beta = p.accumulate ? 1 : 0;
      const float one_f = 1, beta_f = p.accumulate ? 1 : 0;
      const bool wide = e == Element::f64;
      return f_.matmul(handle, plan.operation, wide ? static_cast<const void*>(&one) : &one_f, p.b, plan.a, p.a, plan.b,
                       wide ? static_cast<const void*>(&beta) : &beta_f, p.c, plan.d, p.c, plan.d, &plan.algorithm,
                       nullptr, 0, stream) == 0;
    });
  }

  void forget() {
    for (auto& [key, plan] : plans_) {
      for (const Layout layout : {plan.a, plan.b, plan.d})
        if (layout) f_.layout_destroy(layout);
      if (plan.operation) f_.operation_destroy(plan.operation);
    }
    plans_.clear();
  }

  const Functions& f_;
  std::mutex mutex_;
  std::map<int32_t, Handle> handles_;  // of devices
  std::map<Key, Plan> plans_;
};

}  // namespace

bool multiply(Element e, const Product& p, Stream stream) try {
  if (e == Element::tf32x3 || p.splits != 1 || p.K == 0 || p.M * p.N < (kLeastWork + p.K - 1) / p.K ||
      !library().usable)
    return false;
  for (const void* data : {p.a, p.b, static_cast<const void*>(p.c), p.bias})
    if (alignment_of(data) < kLeastAlignment) return false;
  static Plans& plans = *new Plans(library().functions);
  return plans.run(e, p, stream);
} catch (const std::bad_alloc&) {  // of host memory, for a plan
  return false;
}

const char* state() { return library().state.c_str(); }

}  // namespace fusedrnn::cuda::cublaslt
