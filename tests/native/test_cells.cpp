// The cell headers under other number systems than the kernels':
//   complex numbers   the shipped forward differentiates itself (complex-step) and the shipped backward must agree
//   hard sigmoids     the same proof with another pair of activations
//   integers mod 2^64 whole sequences, T = 50, forward differentiation against the backward pass,
//                     with no rounding at all
// and over lanes: the same bits on every ISA, close to double, and pinned by a hash.
#include <cmath>
#include <complex>

#include "cells/list.hpp"
#include "check.hpp"
#include "probes.hpp"
#include "random.hpp"

namespace {

using namespace fusedrnn;
using check::require;

// ------------------------------------------------------------------------------------------------ number systems
using Complex = std::complex<double>;

struct ComplexMath {
  using V = Complex;
  static V constant(double c) { return c; }
  static V fma(V a, V b, V c) { return a * b + c; }
  static V sigmoid(V x) { return 1.0 / (1.0 + std::exp(-x)); }
  static V tanh(V x) { return std::tanh(x); }
  static V relu(V x) { return x.real() > 0 ? x : V(0); }
  static V sigmoid_slope(V s) { return s - s * s; }
  static V tanh_slope(V t) { return 1.0 - t * t; }
  static V relu_grad(V h, V dh) { return h.real() != 0 ? dh : V(0); }
};

// Keras's hard sigmoid, clamp(x / 5 + 1 / 2, 0, 1), and the tanh that goes with it, clamp(x, -1, 1).
struct HardSigmoidMath : ComplexMath {
  static V sigmoid(V x) { return clamp(0.2 * x + 0.5, 0, 1); }
  static V tanh(V x) { return clamp(x, -1, 1); }
  static V sigmoid_slope(V s) { return s.real() > 0 && s.real() < 1 ? 0.2 : 0.0; }
  static V tanh_slope(V t) { return std::fabs(t.real()) < 1 ? 1.0 : 0.0; }

 private:
  static V clamp(V x, double low, double high) { return x.real() < low ? low : x.real() > high ? high : x; }
};

struct DoubleMath {
  using V = double;
  static V constant(double c) { return c; }
  static V fma(V a, V b, V c) { return std::fma(a, b, c); }
  static V sigmoid(V x) { return 1 / (1 + std::exp(-x)); }
  static V tanh(V x) { return std::tanh(x); }
  static V relu(V x) { return x > 0 ? x : 0; }
  static V sigmoid_slope(V s) { return s - s * s; }
  static V tanh_slope(V t) { return 1 - t * t; }
  static V relu_grad(V h, V dh) { return h != 0 ? dh : 0; }
};

// Integers modulo 2^64: a ring, so sums and products never round and never overflow.
using Ring = uint64_t;

// A ring element with its derivative along one direction.
struct Dual {
  Ring v, d;
  friend Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.d + b.d}; }
  friend Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.d - b.d}; }
  friend Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
};

Ring as_ring(double c, const Ring*) { return static_cast<Ring>(static_cast<int64_t>(c)); }
Dual as_ring(double c, const Dual*) { return {static_cast<Ring>(static_cast<int64_t>(c)), 0}; }

// Activations that a ring has: straight lines, of unlike slopes so that none stands in for another.
template <class N>
struct Linear {
  using V = N;
  static V constant(double c) { return as_ring(c, static_cast<const N*>(nullptr)); }
  static V fma(V a, V b, V c) { return a * b + c; }
  static V sigmoid(V x) { return constant(3) * x + constant(7); }
  static V tanh(V x) { return constant(5) * x + constant(11); }
  static V relu(V x) { return constant(13) * x; }
  static V sigmoid_slope(V) { return constant(3); }
  static V tanh_slope(V) { return constant(5); }
  static V relu_grad(V, V dh) { return constant(13) * dh; }
};

// ------------------------------------------------------------------------------------------------ complex-step
// For a random functional a h' + b carry', every derivative by the complex step against backward's.
template <template <class> class Cell, class M>
void prove(const char* name, uint64_t seed) {
  using C = Cell<M>;
  constexpr int G = C::gates, U = C::unit_values, inputs = 2 * G + 1 + U;
  constexpr double step = 0x1p-100;
  Random random(seed);
  double worst = 0;
  int moved = 0;
  for (int trial = 0; trial < 500; ++trial) {
    Complex in[inputs];
    for (Complex& x : in) x = random.uniform(-2, 2);
    const double dh = random.uniform(-1, 1), dcarry = C::carry_gradient ? random.uniform(-1, 1) : 0;
    const auto functional = [&](Complex* tape, Complex& carry) {
      const Complex h = forward_of<C>(in, in + G, in + 2 * G + 1, in[2 * G], carry, tape);
      return dh * h + dcarry * carry;
    };

    Complex tape[C::tape_blocks + 1], carry, da[C::dgate_blocks];
    functional(tape, carry);
    const Complex dcarry_prev = backward_of<C, Complex>(tape, in + 2 * G + 1, in[2 * G], carry, dh, dcarry, da);
    double expected[inputs] = {};
    for (int k = 0; k < G; ++k) {
      expected[C::x_gate(k)] = da[C::x_first + k].real();
      expected[G + C::h_gate(k)] = da[C::h_first + k].real();
    }
    expected[2 * G] = C::carry_gradient ? dcarry_prev.real() : 0;
    for (int k = 0; k < U; ++k) expected[2 * G + 1 + k] = da[C::dgate_blocks - U + k].real();

    for (int i = 0; i < inputs; ++i) {
      Complex unused[C::tape_blocks + 1], carry_moved;
      in[i] += Complex(0, step);
      const double derivative = functional(unused, carry_moved).imag() / step;
      in[i] = in[i].real();
      const double error = std::fabs(derivative - expected[i]);
      worst = std::fmax(worst, error);
      moved += derivative != 0;
      require(error <= 1e-14, "%s: derivative %d is %.17g, backward says %.17g", name, i, derivative, expected[i]);
    }
  }
  require(moved > 200, "%s: only %d derivatives differ from 0: a proof of little", name, moved);
  std::printf("%-28s complex step, worst difference %.2g\n", name, worst);
}

// ------------------------------------------------------------------------------------------------ integer chains
constexpr int kSteps = 50, kInput = 2, kHidden = 3;

// A recurrent layer of one row, written out: weights, inputs and states as V.
template <class V, int G, int U>
struct Layer {
  V w[G][kHidden][kInput], r[G][kHidden][kHidden], b_ih[G][kHidden], b_hh[G][kHidden];
  V units[kHidden][U + 1];  // one more than there are, which nothing reads
  V x[kSteps][kInput], h0[kHidden], c0[kHidden];
};

// All numbers of a layer as one array.
template <class L, class V>
V* numbers(L& layer, const V*) {
  return reinterpret_cast<V*>(&layer);
}

template <template <class> class Cell, class V>
struct Chain {
  using C = Cell<Linear<V>>;
  static constexpr int G = C::gates, U = C::unit_values;
  V h[kSteps + 1][kHidden], carry[kSteps + 1][kHidden], tape[kSteps][kHidden][C::tape_blocks + 1];

  explicit Chain(const Layer<V, G, U>& layer) {
    for (int j = 0; j < kHidden; ++j) {
      h[0][j] = layer.h0[j];
      carry[0][j] = C::separate_carry ? layer.c0[j] : layer.h0[j];
    }
    for (int t = 0; t < kSteps; ++t)
      for (int j = 0; j < kHidden; ++j) {
        V from_x[G], from_h[G];
        for (int g = 0; g < G; ++g) {
          from_x[g] = layer.b_ih[g][j];
          for (int i = 0; i < kInput; ++i) from_x[g] = from_x[g] + layer.w[g][j][i] * layer.x[t][i];
          from_h[g] = layer.b_hh[g][j];
          for (int i = 0; i < kHidden; ++i) from_h[g] = from_h[g] + layer.r[g][j][i] * h[t][i];
        }
        h[t + 1][j] = forward_of<C>(from_x, from_h, layer.units[j], carry[t][j], carry[t + 1][j], tape[t][j]);
      }
  }
};

// The functional sum dy[t] . h[t] + dcn . carry at the end, differentiated by running Dual numbers forward and by
// running backward; both are exact, so they agree to the last bit.
template <template <class> class Cell>
void chain(const char* name, uint64_t seed) {
  using C = Cell<Linear<Ring>>;
  constexpr int G = C::gates, U = C::unit_values;
  constexpr size_t count = sizeof(Layer<Ring, G, U>) / sizeof(Ring);
  static_assert(sizeof(Layer<Dual, G, U>) == count * sizeof(Dual), "a layer is an array of numbers");
  Random random(seed);

  Layer<Ring, G, U> layer, grad;
  Layer<Dual, G, U> moved;
  Ring direction[count];
  for (size_t i = 0; i < count; ++i) {
    numbers(layer, static_cast<Ring*>(nullptr))[i] = random.bits();
    numbers(grad, static_cast<Ring*>(nullptr))[i] = 0;
    direction[i] = random.bits();
    numbers(moved, static_cast<Dual*>(nullptr))[i] = {numbers(layer, static_cast<Ring*>(nullptr))[i], direction[i]};
  }
  Ring dy[kSteps][kHidden], dcn[kHidden];
  for (auto& step : dy)
    for (Ring& v : step) v = random.bits();
  for (Ring& v : dcn) v = C::separate_carry ? random.bits() : 0;

  const Chain<Cell, Dual> forward_mode(moved);
  Ring derivative = 0;
  for (int j = 0; j < kHidden; ++j) {
    for (int t = 0; t < kSteps; ++t) derivative += dy[t][j] * forward_mode.h[t + 1][j].d;
    derivative += dcn[j] * forward_mode.carry[kSteps][j].d;
  }

  const Chain<Cell, Ring> run(layer);
  Ring dh[kHidden] = {}, dcarry[kHidden];
  for (int j = 0; j < kHidden; ++j) dcarry[j] = dcn[j];
  for (int t = kSteps - 1; t >= 0; --t) {
    Ring dh_prev[kHidden] = {};
    for (int j = 0; j < kHidden; ++j) {
      Ring da[C::dgate_blocks];
      dcarry[j] = backward_of<C, Ring>(run.tape[t][j], layer.units[j], run.carry[t][j], run.carry[t + 1][j],
                                       dh[j] + dy[t][j], C::carry_gradient ? dcarry[j] : 0, da);
      for (int k = 0; k < U; ++k) grad.units[j][k] += da[C::dgate_blocks - U + k];
      for (int k = 0; k < G; ++k) {
        const int gx = C::x_gate(k), gh = C::h_gate(k);
        const Ring from_x = da[C::x_first + k], from_h = da[C::h_first + k];
        grad.b_ih[gx][j] += from_x;
        grad.b_hh[gh][j] += from_h;
        for (int i = 0; i < kInput; ++i) {
          grad.w[gx][j][i] += from_x * layer.x[t][i];
          grad.x[t][i] += from_x * layer.w[gx][j][i];
        }
        for (int i = 0; i < kHidden; ++i) {
          grad.r[gh][j][i] += from_h * run.h[t][i];
          dh_prev[i] += from_h * layer.r[gh][j][i];
        }
      }
    }
    for (int j = 0; j < kHidden; ++j) dh[j] = dh_prev[j];
  }
  for (int j = 0; j < kHidden; ++j) {
    grad.h0[j] = dh[j];
    if (C::separate_carry)
      grad.c0[j] = dcarry[j];
    else if (C::carry_gradient)
      grad.h0[j] += dcarry[j];
  }

  Ring along = 0;
  for (size_t i = 0; i < count; ++i) along += numbers(grad, static_cast<Ring*>(nullptr))[i] * direction[i];
  require(along == derivative, "%s: after %d steps the backward pass gives %016llx, differentiation %016llx", name,
          kSteps, static_cast<unsigned long long>(along), static_cast<unsigned long long>(derivative));
  require(derivative != 0, "%s: the derivative vanished", name);
}

// ------------------------------------------------------------------------------------------------ lanes
// Forward, then backward on what it kept, by every ISA; `n` leaves a tail on all of them.
template <template <class> class Cell, class T>
void lanes(const char* name, Hash& hash, const Probe& probe, double tolerance) {
  using C = Cell<DoubleMath>;
  constexpr int G = C::gates, B = C::tape_blocks, D = C::dgate_blocks, U = C::unit_values;
  constexpr int64_t n = 4099;
  Random random(29);
  std::vector<T> in((2 * G + 1 + U) * n), out((2 + B) * n), back_in((B + 4 + U) * n), back_out((D + 1) * n);
  for (T& x : in) x = static_cast<T>(random.uniform(-4, 4));
  call(find(probe, std::string(name) + " forward"), in.data(), out.data(), n);

  const auto block = [](std::vector<T>& v, int k) { return v.begin() + k * n; };
  std::copy(block(out, 2), out.end(), back_in.begin());
  std::copy(block(in, 2 * G), block(in, 2 * G + 1), block(back_in, B));
  std::copy(block(out, 1), block(out, 2), block(back_in, B + 1));
  for (auto x = block(back_in, B + 2); x != back_in.end(); ++x) *x = static_cast<T>(random.uniform(-1, 1));
  call(find(probe, std::string(name) + " backward"), back_in.data(), back_out.data(), n);
  for (T y : out) hash.add(y);
  for (T y : back_out) hash.add(y);

  for (int64_t i = 0; i < n; ++i) {
    double x[2 * G + 1 + U], back[B + 4 + U], tape[B + 1], carry, da[D];
    for (int k = 0; k < 2 * G + 1 + U; ++k) x[k] = in[k * n + i];
    for (int k = 0; k < B + 4 + U; ++k) back[k] = back_in[k * n + i];
    const double h = forward_of<C>(x, x + G, x + 2 * G + 1, x[2 * G], carry, tape);
    const double dcarry = backward_of<C>(back, back + B + 4, back[B], back[B + 1], back[B + 2], back[B + 3], da);
    const auto close = [&](const char* what, int k, double got, double wanted) {
      require(std::fabs(got - wanted) <= tolerance * std::fmax(1, std::fabs(wanted)),
              "%s, %s: %s %d of element %d is %.9g, in double %.9g", probe.isa, name, what, k, static_cast<int>(i), got,
              wanted);
    };
    close("h", 0, out[i], h);
    close("carry", 0, out[n + i], carry);
    for (int k = 0; k < B; ++k) close("tape", k, out[(2 + k) * n + i], tape[k]);
    for (int k = 0; k < D; ++k) close("da", k, back_out[k * n + i], da[k]);
    if (C::carry_gradient) close("dcarry", 0, back_out[D * n + i], dcarry);
  }
}

template <class T>
void all_lanes(const char* type, double tolerance, uint64_t expected) {
  for (const Probe* probe : probes()) {
    Hash hash;
#define FUSEDRNN_LANES(kind, Type) lanes<Type, T>(#kind, hash, *probe, tolerance);
    FUSEDRNN_CELLS(FUSEDRNN_LANES)
    require(hash.value() == expected, "%s, %s: the bits of the cells hash to 0x%016llx, pinned are 0x%016llx",
            probe->isa, type, static_cast<unsigned long long>(hash.value()), static_cast<unsigned long long>(expected));
  }
}

}  // namespace

int main() {
#define FUSEDRNN_PROVE(kind, Type)                                                                       \
  prove<Type, ComplexMath>(#kind, 1 + static_cast<uint64_t>(CellKind::kind));                            \
  prove<Type, HardSigmoidMath>(#kind ", hard activations", 101 + static_cast<uint64_t>(CellKind::kind)); \
  for (uint64_t seed = 0; seed < 20; ++seed) chain<Type>(#kind, seed);
  FUSEDRNN_CELLS(FUSEDRNN_PROVE)
  all_lanes<float>("float", 2e-6, 0xa44ad1706fb3e780u);
  all_lanes<double>("double", 4e-15, 0x5de33d6abf8a9a9fu);
  return check::finish("test_cells");
}
