// The lanes of every ISA against what lanes.hpp promises, on special values in every combination; and partial loads and
// stores on memory that ends where they must.
#include <cmath>
#include <functional>
#include <limits>

#include "check.hpp"
#include "guarded.hpp"
#include "probes.hpp"
#include "random.hpp"

namespace {

using check::require;

template <class T>
std::vector<T> interesting() {
  using L = std::numeric_limits<T>;
  return {0,        T(-0.0),     1,        -1,        T(0.5),          T(1.5),           T(2.5),
          T(-2.5),  T(3),        T(-0.49), T(1e10),   L::infinity(),   -L::infinity(),   L::quiet_NaN(),
          L::max(), L::lowest(), L::min(), -L::min(), L::denorm_min(), -L::denorm_min(), T(1) + L::epsilon(),
          T(0.1),   T(-7.3),     T(100)};
}

// One operation on all combinations of the interesting values against its meaning.
template <class T>
void compare(const char* name, int inputs, int outputs, const std::function<void(const T*, T*)>& meaning) {
  const std::vector<T> values = interesting<T>();
  const size_t kinds = values.size();
  size_t n = 1;
  for (int k = 0; k < inputs; ++k) n *= kinds;
  std::vector<T> in(inputs * n), out(outputs * n);
  for (size_t i = 0, rest = 0; i < n; ++i) {
    rest = i;
    for (int k = 0; k < inputs; ++k, rest /= kinds) in[k * n + i] = values[rest % kinds];
  }
  for (const Probe* probe : probes()) {
    call(find(*probe, name), in.data(), out.data(), static_cast<int64_t>(n));
    for (size_t i = 0; i < n; ++i) {
      T a[4] = {}, must[5] = {};
      for (int k = 0; k < inputs; ++k) a[k] = in[k * n + i];
      meaning(a, must);
      for (int k = 0; k < outputs; ++k)
        require(same_bits(out[k * n + i], must[k]), "%s: %s(%a, %a, %a, %a)[%d] is %a, must be %a", probe->isa, name,
                double(a[0]), double(a[1]), double(a[2]), double(a[3]), k, double(out[k * n + i]), double(must[k]));
    }
  }
}

template <class T>
void operations() {
  const auto chosen = [](bool m, const T* a) { return m ? a[2] : a[3]; };
  compare<T>("fma", 3, 1, [](const T* a, T* b) { b[0] = std::fma(a[0], a[1], a[2]); });
  compare<T>("min", 2, 1, [](const T* a, T* b) { b[0] = a[0] < a[1] ? a[0] : a[1]; });
  compare<T>("max", 2, 1, [](const T* a, T* b) { b[0] = a[0] > a[1] ? a[0] : a[1]; });
  compare<T>("lt", 4, 1, [&](const T* a, T* b) { b[0] = chosen(a[0] < a[1], a); });
  compare<T>("gt", 4, 1, [&](const T* a, T* b) { b[0] = chosen(a[0] > a[1], a); });
  compare<T>("eq", 4, 1, [&](const T* a, T* b) { b[0] = chosen(a[0] == a[1], a); });
  compare<T>("abs", 1, 1, [](const T* a, T* b) { b[0] = std::fabs(a[0]); });
  compare<T>("copysign", 2, 1, [](const T* a, T* b) { b[0] = std::copysign(a[0], a[1]); });
  compare<T>("round", 1, 1, [](const T* a, T* b) { b[0] = std::nearbyint(a[0]); });
  compare<T>("sqrt", 1, 1, [](const T* a, T* b) { b[0] = std::sqrt(a[0]); });
  compare<T>("arithmetic", 2, 5, [](const T* a, T* b) {
    b[0] = a[0] + a[1];
    b[1] = a[0] - a[1];
    b[2] = a[0] * a[1];
    b[3] = a[0] / a[1];
    b[4] = -a[0];
  });
}

template <class T>
void powers() {
  using L = std::numeric_limits<T>;
  std::vector<T> k, two_k, m, e;
  for (int i = L::min_exponent - 1; i < L::max_exponent; ++i) k.push_back(static_cast<T>(i));
  two_k.resize(k.size());
  for (const Probe* probe : probes()) {
    call(find(*probe, "pow2"), k.data(), two_k.data(), static_cast<int64_t>(k.size()));
    for (size_t i = 0; i < k.size(); ++i)
      require(two_k[i] == std::ldexp(T(1), static_cast<int>(k[i])), "%s: pow2(%g) is %a", probe->isa, double(k[i]),
              double(two_k[i]));
  }
  Random random(5);
  std::vector<T> v{L::min(), L::max(), 1, std::sqrt(T(0.5)), std::sqrt(T(2)), T(2) - L::epsilon()}, out;
  const T half_root = std::sqrt(T(0.5));
  v.push_back(std::nextafter(half_root, T(0)));
  v.push_back(std::nextafter(half_root, T(1)));
  for (int i = 0; i < 5000; ++i) v.push_back(static_cast<T>(std::fabs(random.scaled(-100, 124))));
  out.resize(2 * v.size());
  for (const Probe* probe : probes()) {
    call(find(*probe, "split"), v.data(), out.data(), static_cast<int64_t>(v.size()));
    for (size_t i = 0; i < v.size(); ++i) {
      const T mantissa = out[i], exponent = out[v.size() + i];
      require(mantissa >= half_root && mantissa <= 2 * half_root && exponent == std::nearbyint(exponent) &&
                  std::ldexp(mantissa, static_cast<int>(exponent)) == v[i],
              "%s: split(%a) is %a, %a", probe->isa, double(v[i]), double(mantissa), double(exponent));
    }
  }
}

// Every length up to a few registers, at either end of accessible memory: nothing outside is touched, missing lanes
// read as 0 (tanh(0) = 0 keeps them from trapping), and neighbours in memory keep what they hold.
template <class T>
void partial() {
  for (const Probe* probe : probes()) {
    const ProbeFunction& tanh = find(*probe, "tanh");
    for (size_t n = 0; n <= 40; ++n)
      for (Guard guard : {Guard::after, Guard::before}) {
        Guarded<T> in(n, guard), out(n, guard);
        for (size_t i = 0; i < n; ++i) in[i] = T(0.25) * static_cast<T>(i) - 3;
        call(tanh, in.data(), out.data(), static_cast<int64_t>(n));
        for (size_t i = 0; i < n; ++i)
          require(std::fabs(out[i] - std::tanh(in[i])) < T(1e-6), "%s: element %zu of %zu is %g", probe->isa, i, n,
                  double(out[i]));

        std::vector<T> wide(n + 32, T(77)), from(in.begin(), in.end());
        call(tanh, from.data(), wide.data(), static_cast<int64_t>(n));
        for (size_t i = n; i < wide.size(); ++i)
          require(wide[i] == 77, "%s: %zu elements stored, element %zu changed too", probe->isa, n, i);
      }
  }
}

}  // namespace

int main() {
  operations<float>();
  operations<double>();
  powers<float>();
  powers<double>();
  partial<float>();
  partial<double>();
  return check::finish("test_lanes");
}
