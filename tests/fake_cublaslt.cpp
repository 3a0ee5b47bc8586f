// A cuBLASLt for tests: computes on the host what it is asked for, column-major as the real one, checks what the real
// one would refuse or get wrong, and writes a line for each product to the file that FAKE_CUBLASLT_LOG names. With
// FAKE_CUBLASLT_FAIL=create, heuristic or matmul that function fails. Numbers are those of NVIDIA's documentation.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

namespace {

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t ld;
};
struct Operation {
  int compute, scale;
  std::map<int, std::vector<char>> attributes;
};
using Preference = std::map<int, std::vector<char>>;
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

constexpr int kInvalid = 7, kNotSupported = 15;
constexpr uint64_t kMark = 0x5eed;
int handle;

bool fails(const char* name) {
  const char* which = std::getenv("FAKE_CUBLASLT_FAIL");
  return which && std::strcmp(which, name) == 0;
}

template <class T>
T value(const std::map<int, std::vector<char>>& attributes, int name, T otherwise) {
  const auto found = attributes.find(name);
  if (found == attributes.end()) return otherwise;
  if (found->second.size() != sizeof(T)) std::abort();
  T result;
  std::memcpy(&result, found->second.data(), sizeof result);
  return result;
}

float narrow(const void* data, int type, int64_t i) {
  uint16_t bits = static_cast<const uint16_t*>(data)[i];
  if (type == 14) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float result;
    std::memcpy(&result, &wide, sizeof result);
    return result;
  }
  _Float16 half;
  std::memcpy(&half, &bits, sizeof half);
  return static_cast<float>(half);
}

double at(const void* data, const Layout& l, bool turned, int64_t row, int64_t column) {
  const int64_t i = turned ? column + row * l.ld : row + column * l.ld;
  if (l.type == 0) return static_cast<const float*>(data)[i];
  if (l.type == 1) return static_cast<const double*>(data)[i];
  return narrow(data, l.type, i);
}

// Sizes of op(A) op(B) = D; false where they do not fit.
bool sizes(const Operation& o, const Layout& a, const Layout& b, const Layout& d, int64_t* k) {
  const bool ta = value<uint32_t>(o.attributes, 3, 0), tb = value<uint32_t>(o.attributes, 4, 0);
  *k = static_cast<int64_t>(ta ? a.rows : a.columns);
  for (const Layout* l : {&a, &b, &d})
    if (l->ld < static_cast<int64_t>(l->rows)) return false;
  return (ta ? a.columns : a.rows) == d.rows && (tb ? b.rows : b.columns) == d.columns &&
         (tb ? b.columns : b.rows) == static_cast<uint64_t>(*k);
}

bool combination(const Operation& o, const Layout& a, const Layout& b, const Layout& d) {
  if (a.type != b.type) return false;
  if (a.type == 1) return o.compute == 70 && o.scale == 1 && d.type == 1;
  return (a.type == 0 ? o.compute == 69 || o.compute == 77 : o.compute == 68) && o.scale == 0 && d.type == 0;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return 130100; }

// It allocates, which a capture forbids but in the relaxed mode.
int cublasLtCreate(void** to) {
  void* const emulator = dlopen(std::getenv("FUSEDRNN_CUDA_PLUGIN"), RTLD_NOW | RTLD_NOLOAD);
  const auto relaxed = reinterpret_cast<int (*)()>(emulator ? dlsym(emulator, "fusedrnn_simt_relaxed") : nullptr);
  *to = &handle;
  return fails("create") || !relaxed || !relaxed() ? 1 : 0;
}

int cublasLtMatmulDescCreate(void** to, int compute, int scale) {
  *to = new Operation{compute, scale, {}};
  return 0;
}

int cublasLtMatmulDescSetAttribute(void* operation, int name, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  static_cast<Operation*>(operation)->attributes[name].assign(from, from + bytes);
  return 0;
}

int cublasLtMatmulDescDestroy(void* operation) {
  delete static_cast<Operation*>(operation);
  return 0;
}

int cublasLtMatrixLayoutCreate(void** to, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  *to = new Layout{type, rows, columns, ld};
  return 0;
}

int cublasLtMatrixLayoutDestroy(void* layout) {
  delete static_cast<Layout*>(layout);
  return 0;
}

int cublasLtMatmulPreferenceCreate(void** to) {
  *to = new Preference();
  return 0;
}

int cublasLtMatmulPreferenceSetAttribute(void* preference, int name, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  (*static_cast<Preference*>(preference))[name].assign(from, from + bytes);
  return 0;
}

int cublasLtMatmulPreferenceDestroy(void* preference) {
  delete static_cast<Preference*>(preference);
  return 0;
}

// The algorithm keeps the alignments that were promised.
int cublasLtMatmulAlgoGetHeuristic(void* h, void* operation, void* a, void* b, void* c, void* d, void* preference,
                                   int wanted, Heuristic* to, int* found) {
  *found = 0;
  int64_t k;
  if (h != &handle || c != d || wanted != 1) return kInvalid;
  const Operation& o = *static_cast<Operation*>(operation);
  const Layout &la = *static_cast<Layout*>(a), &lb = *static_cast<Layout*>(b), &ld = *static_cast<Layout*>(d);
  if (!sizes(o, la, lb, ld, &k) || !combination(o, la, lb, ld)) return kInvalid;
  if (fails("heuristic")) return kNotSupported;
  const Preference& p = *static_cast<Preference*>(preference);
  *to = {};
  to->algorithm[0] = kMark;
  to->algorithm[1] = value<uint32_t>(p, 3, 7);
  for (int i = 0; i < 4; ++i) to->algorithm[2 + i] = value<uint32_t>(p, 5 + i, 256);
  to->workspace = value<uint64_t>(p, 1, 0);
  *found = 1;
  return 0;
}

int cublasLtMatmul(void* h, void* operation, const void* alpha, const void* a, void* a_layout, const void* b,
                   void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
                   const uint64_t* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
  const Operation& o = *static_cast<Operation*>(operation);
  const Layout &la = *static_cast<Layout*>(a_layout), &lb = *static_cast<Layout*>(b_layout),
               &ld = *static_cast<Layout*>(d_layout);
  int64_t k = 0;
  if (h != &handle || algorithm[0] != kMark || c != d || c_layout != d_layout || !sizes(o, la, lb, ld, &k))
    return kInvalid;
  const void* const of[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<uintptr_t>(of[i]) % algorithm[2 + i] != 0) return kInvalid;
  if (fails("matmul")) return kNotSupported;
  const bool ta = value<uint32_t>(o.attributes, 3, 0), tb = value<uint32_t>(o.attributes, 4, 0);
  const uint32_t epilogue = value<uint32_t>(o.attributes, 7, 1);
  const void* const bias = epilogue == 4 ? value<const void*>(o.attributes, 8, nullptr) : nullptr;
  const bool wide = ld.type == 1;
  const double one = wide ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
  const double keep = wide ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
  std::vector<double> row(static_cast<size_t>(k));
  for (int64_t i = 0; i < static_cast<int64_t>(ld.rows); ++i) {
    for (int64_t n = 0; n < k; ++n) row[static_cast<size_t>(n)] = at(a, la, ta, i, n);
    for (int64_t j = 0; j < static_cast<int64_t>(ld.columns); ++j) {
      double sum = 0;
      for (int64_t n = 0; n < k; ++n) sum += row[static_cast<size_t>(n)] * at(b, lb, tb, n, j);
      sum *= one;
      if (keep != 0) sum += keep * at(c, ld, false, i, j);
      if (bias) sum += wide ? static_cast<const double*>(bias)[i] : static_cast<const float*>(bias)[i];
      if (wide)
        static_cast<double*>(d)[i + j * ld.ld] = sum;
      else
        static_cast<float*>(d)[i + j * ld.ld] = static_cast<float>(sum);
    }
  }
  if (const char* log = std::getenv("FAKE_CUBLASLT_LOG")) {
    std::FILE* file = std::fopen(log, "a");
    std::fprintf(file,
                 "%d: %c %lldx%lld/%lld  %c %lldx%lld/%lld  %lldx%lld/%lld  compute %d beta %g bias %d  "
                 "schemes %d workspace %zu stream %p\n",
                 la.type, ta ? 'T' : 'N', (long long)la.rows, (long long)la.columns, (long long)la.ld, tb ? 'T' : 'N',
                 (long long)lb.rows, (long long)lb.columns, (long long)lb.ld, (long long)ld.rows, (long long)ld.columns,
                 (long long)ld.ld, o.compute, keep, bias != nullptr, (int)algorithm[1], workspace ? workspace_bytes : 0,
                 stream);
    std::fclose(file);
  }
  return 0;
}
}
