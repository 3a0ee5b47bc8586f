#include "probe.hpp"

#include "simd/math.hpp"
#include "whole_cell.hpp"

namespace fusedrnn::FUSEDRNN_ISA {
namespace {

template <class T, int In, int Out, class Body>
FR_INLINE void map(const T* in, T* out, int64_t n, const Body& body) {
  using L = Lanes<T>;
  typename L::V a[In], b[Out];
  int64_t i = 0;
  for (; i + L::N <= n; i += L::N) {
    for (int k = 0; k < In; ++k) a[k] = L::load(in + k * n + i);
    body(a, b);
    for (int k = 0; k < Out; ++k) L::store(out + k * n + i, b[k]);
  }
  const int left = static_cast<int>(n - i);  // 0 is tried too: it must touch nothing
  for (int k = 0; k < In; ++k) a[k] = L::load(in + k * n + i, left);
  body(a, b);
  for (int k = 0; k < Out; ++k) L::store(out + k * n + i, b[k], left);
}

template <class T, auto F>
void unary(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  map<T, 1, 1>(in, out, n, [](const V* a, V* b) { b[0] = F(a[0]); });
}

template <class T, auto F>
void binary(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  map<T, 2, 1>(in, out, n, [](const V* a, V* b) { b[0] = F(a[0], a[1]); });
}

template <class T, auto F>
void ternary(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  map<T, 3, 1>(in, out, n, [](const V* a, V* b) { b[0] = F(a[0], a[1], a[2]); });
}

// Comparisons choose between the third and the fourth input.
template <class T, auto F>
void compare(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  map<T, 4, 1>(in, out, n, [](const V* a, V* b) { b[0] = Lanes<T>::select(F(a[0], a[1]), a[2], a[3]); });
}

template <class T>
void split(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  map<T, 1, 2>(in, out, n, [](const V* a, V* b) { b[0] = Lanes<T>::split(a[0], b[1]); });
}

template <class T>
void pow2(const T* in, T* out, int64_t n) {
  using L = Lanes<T>;
  using V = typename L::V;
  map<T, 1, 1>(in, out, n, [](const V* a, V* b) { b[0] = L::pow2(a[0] + L::set(L::kShift)); });
}

template <class T>
void arithmetic(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  map<T, 2, 5>(in, out, n, [](const V* a, V* b) {
    b[0] = a[0] + a[1];
    b[1] = a[0] - a[1];
    b[2] = a[0] * a[1];
    b[3] = a[0] / a[1];
    b[4] = -a[0];
  });
}

// in: x[gates], h[gates], carry_prev, units; out: h, carry, tape.
template <class T, class Cell>
void cell_forward(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  constexpr int G = Cell::gates;
  map<T, 2 * G + 1 + Cell::unit_values, 2 + Cell::tape_blocks>(
      in, out, n, [](const V* a, V* b) { b[0] = forward_of<Cell>(a, a + G, a + 2 * G + 1, a[2 * G], b[1], b + 2); });
}

// in: tape, carry_prev, carry, dh, dcarry, units; out: da, dcarry of the step before.
template <class T, class Cell>
void cell_backward(const T* in, T* out, int64_t n) {
  using V = typename Lanes<T>::V;
  constexpr int B = Cell::tape_blocks, D = Cell::dgate_blocks;
  map<T, B + 4 + Cell::unit_values, D + 1>(in, out, n, [](const V* a, V* b) {
    b[D] = backward_of<Cell>(a, a + B + 4, a[B], a[B + 1], a[B + 2], a[B + 3], b);
  });
}

template <template <class> class Cell>
constexpr ProbeFunction forward(const char* name) {
  using C = Cell<Math<float>>;
  return {name, 2 * C::gates + 1 + C::unit_values, 2 + C::tape_blocks, cell_forward<float, Whole<C>>,
          cell_forward<double, Whole<Cell<Math<double>>>>};
}

template <template <class> class Cell>
constexpr ProbeFunction backward(const char* name) {
  using C = Cell<Math<float>>;
  return {name, C::tape_blocks + 4 + C::unit_values, C::dgate_blocks + 1, cell_backward<float, Whole<C>>,
          cell_backward<double, Whole<Cell<Math<double>>>>};
}

using F = Math<float>;
using D = Math<double>;
using LF = Lanes<float>;
using LD = Lanes<double>;

constexpr ProbeFunction kFunctions[] = {
    {"exp", 1, 1, unary<float, F::exp>, unary<double, D::exp>},
    {"sigmoid", 1, 1, unary<float, F::sigmoid>, unary<double, D::sigmoid>},
    {"tanh", 1, 1, unary<float, F::tanh>, unary<double, D::tanh>},
    {"log", 1, 1, unary<float, F::log>, unary<double, D::log>},
    {"log1p", 1, 1, unary<float, F::log1p>, unary<double, D::log1p>},
    {"relu", 1, 1, unary<float, F::relu>, unary<double, D::relu>},
    {"relu_grad", 2, 1, binary<float, F::relu_grad>, binary<double, D::relu_grad>},
    {"sigmoid_slope", 1, 1, unary<float, F::sigmoid_slope>, unary<double, D::sigmoid_slope>},
    {"tanh_slope", 1, 1, unary<float, F::tanh_slope>, unary<double, D::tanh_slope>},
    {"fma", 3, 1, ternary<float, LF::fma>, ternary<double, LD::fma>},
    {"min", 2, 1, binary<float, LF::min>, binary<double, LD::min>},
    {"max", 2, 1, binary<float, LF::max>, binary<double, LD::max>},
    {"lt", 4, 1, compare<float, LF::lt>, compare<double, LD::lt>},
    {"gt", 4, 1, compare<float, LF::gt>, compare<double, LD::gt>},
    {"eq", 4, 1, compare<float, LF::eq>, compare<double, LD::eq>},
    {"abs", 1, 1, unary<float, LF::abs>, unary<double, LD::abs>},
    {"copysign", 2, 1, binary<float, LF::copysign>, binary<double, LD::copysign>},
    {"round", 1, 1, unary<float, LF::round>, unary<double, LD::round>},
    {"sqrt", 1, 1, unary<float, LF::sqrt>, unary<double, LD::sqrt>},
    {"arithmetic", 2, 5, arithmetic<float>, arithmetic<double>},
    {"split", 1, 2, split<float>, split<double>},
    {"pow2", 1, 1, pow2<float>, pow2<double>},
#define FUSEDRNN_PROBES(kind, Type) forward<Type>(#kind " forward"), backward<Type>(#kind " backward"),
    FUSEDRNN_UNIT_CELLS(FUSEDRNN_PROBES)
#undef FUSEDRNN_PROBES
};

}  // namespace
}  // namespace fusedrnn::FUSEDRNN_ISA

#define FUSEDRNN_TEXT_(token) #token
#define FUSEDRNN_TEXT(token) FUSEDRNN_TEXT_(token)
#define FUSEDRNN_PROBE_(isa) fusedrnn_probe_##isa
#define FUSEDRNN_PROBE(isa) FUSEDRNN_PROBE_(isa)

using namespace fusedrnn::FUSEDRNN_ISA;

extern "C" {
extern const Probe FUSEDRNN_PROBE(FUSEDRNN_ISA);
const Probe FUSEDRNN_PROBE(FUSEDRNN_ISA) = {FUSEDRNN_TEXT(FUSEDRNN_ISA), LF::N, LD::N,
                                            sizeof kFunctions / sizeof kFunctions[0], kFunctions};
}
