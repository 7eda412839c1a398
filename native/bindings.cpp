// What Python sees of the engine. The only file that knows of Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <pthread.h>

#include <atomic>
#include <stdexcept>

#include "executor.hpp"
#include "isa.hpp"
#include "operation_names.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Table = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Tensor = nb::ndarray<nb::device::cpu>;

unspool::OperandRef operand(const int64_t* at) {
  return {at[0], at[1], static_cast<unspool::Operand>(at[2])};
}

// Rows: storages [place, array, width, first]; instructions [kind, op, dst(3), width, groups, a(3), b(3), c(3), weight,
// imm0, imm1, phase].
unspool::Plan make_plan(Table storages, Table instructions, std::vector<double> constants, std::vector<int64_t> indices,
                        int64_t arrays, int64_t weights, bool backward) {
  if (storages.shape(1) != 4 || instructions.shape(1) != 20) throw std::invalid_argument("engine: tables of another form");
  unspool::Plan plan;
  for (size_t i = 0; i < storages.shape(0); ++i) {
    const int64_t* s = storages.data() + i * 4;
    plan.storages.push_back({static_cast<unspool::Place>(s[0]), s[1], s[2], s[3]});
  }
  for (size_t i = 0; i < instructions.shape(0); ++i) {
    const int64_t* r = instructions.data() + i * 20;
    plan.instructions.push_back({static_cast<unspool::Kind>(r[0]), r[1], operand(r + 2), r[5], r[6], operand(r + 7),
                                 operand(r + 10), operand(r + 13), r[16], r[17], r[18],
                                 static_cast<unspool::Phase>(r[19])});
  }
  plan.constants = std::move(constants);
  plan.indices = std::move(indices);
  plan.arrays = arrays;
  plan.weights = weights;
  plan.backward = backward;
  plan.validate();
  return plan;
}

struct OwnedLayout {
  std::vector<int64_t> row_start, counts, offsets, times, sequences;
  unspool::Layout view{};
};

using Vector = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void make_layout(OwnedLayout* self, int64_t tokens, int64_t rows, Vector row_start, Table counts, Table offsets,
                 Vector times, Vector sequences) {
  new (self) OwnedLayout();
  const size_t blocks = row_start.shape(0), steps = counts.shape(1);
  if (counts.shape(0) != blocks || offsets.shape(0) != blocks || offsets.shape(1) != steps ||
      times.shape(0) != static_cast<size_t>(tokens) || sequences.shape(0) != static_cast<size_t>(tokens)) {
    throw std::invalid_argument("engine: layout tables that do not fit together");
  }
  self->row_start.assign(row_start.data(), row_start.data() + blocks);
  self->counts.assign(counts.data(), counts.data() + blocks * steps);
  self->offsets.assign(offsets.data(), offsets.data() + blocks * steps);
  self->times.assign(times.data(), times.data() + times.shape(0));
  self->sequences.assign(sequences.data(), sequences.data() + sequences.shape(0));
  self->view = {static_cast<int64_t>(steps),
                static_cast<int64_t>(blocks),
                tokens,
                rows,
                self->row_start.data(),
                self->counts.data(),
                self->offsets.data(),
                self->times.data(),
                self->sequences.data()};
  self->view.validate();
}

template <class T>
unspool::Array<T> matrix(const Tensor& t) {
  if (t.ndim() != 2 || t.dtype() != nb::dtype<T>() || (t.shape(0) > 0 && t.shape(1) > 1 && t.stride(1) != 1)) {
    throw std::invalid_argument("engine: an array is not a matrix of the run's dtype with its columns side by side");
  }
  return {static_cast<T*>(t.data()), static_cast<int64_t>(t.shape(0)), static_cast<int64_t>(t.shape(1)),
          t.shape(0) > 1 ? t.stride(0) : static_cast<int64_t>(t.shape(1))};
}

// A matrix, or a padded array [T, B, features] in any order of its first two axes.
template <class T>
unspool::Array<T> array(const Tensor& t) {
  if (t.ndim() != 3) return matrix<T>(t);
  const bool empty = t.shape(0) == 0 || t.shape(1) == 0;
  if (t.dtype() != nb::dtype<T>() || (!empty && t.shape(2) > 1 && t.stride(2) != 1)) {
    throw std::invalid_argument("engine: a padded array is not of the run's dtype with its features side by side");
  }
  return {static_cast<T*>(t.data()), static_cast<int64_t>(t.shape(0)), static_cast<int64_t>(t.shape(2)), t.stride(0),
          static_cast<int64_t>(t.shape(1)), t.stride(1)};
}

template <class T>
unspool::Weight<T> weight(const Tensor& t) {
  if (t.ndim() != 2 || t.dtype() != nb::dtype<T>()) throw std::invalid_argument("engine: a weight is not a matrix");
  return {static_cast<const T*>(t.data()), static_cast<int64_t>(t.shape(0)), static_cast<int64_t>(t.shape(1)),
          t.stride(0), t.stride(1)};
}

// Whether this is the thread on which Python runs the handlers of signals.
bool is_main_thread() {
  static std::atomic<unsigned long> main{0};
  static const int registered = pthread_atfork(nullptr, nullptr, [] { main.store(0); });
  static_cast<void>(registered);
  if (main.load() == 0) main.store(nb::cast<unsigned long>(nb::module_::import_("threading").attr("main_thread")().attr("ident")));
  return main.load() == PyThread_get_thread_ident();
}

template <class T>
void run(const unspool::Plan& plan, const OwnedLayout& layout, const std::vector<Tensor>& arrays,
         const std::vector<Tensor>& weights, int threads, unspool::Workspace* kept) {
  std::vector<unspool::Array<T>> a;
  std::vector<unspool::Weight<T>> w;
  for (const Tensor& t : arrays) a.push_back(array<T>(t));
  for (const Tensor& t : weights) w.push_back(weight<T>(t));
  // Runs the handlers of the signals that have come; tells whether one of them has raised.
  const auto stop = [] {
    nb::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
  };
  unspool::Watch watch(stop);
  unspool::Watch* const watched = is_main_thread() ? &watch : nullptr;
  try {
    nb::gil_scoped_release release;
    threads = unspool::worthwhile_threads(plan, layout.view, w, threads);
    unspool::execute<T>(plan, layout.view, a, w, threads, kept, watched);
  } catch (const unspool::Stopped&) {
    throw nb::python_error();  // what the handler has raised
  }
}

template <size_t N>
std::vector<std::string> listed(const char* const (&names)[N]) {
  return {names, names + N};
}

// "a, b, c"
nb::object listed(const char* names) { return nb::str(names).attr("split")(", "); }

}  // namespace

NB_MODULE(_engine, m) {
  m.doc() = "The native CPU engine: runs plans over ragged batches.";
  nb::set_leak_warnings(false);  // plans are kept for the life of the process
  m.attr("interface") = 6;  // changes whenever the columns of the tables do
  nb::dict names;  // of what stands in the tables as a number, each at its number
  names["unary operation"] = listed(unspool::kUnaryNames);
  names["binary operation"] = listed(unspool::kBinaryNames);
  names["ternary operation"] = listed(unspool::kTernaryNames);
  names["reduce operation"] = listed(unspool::kReduceNames);
  names["place"] = listed(unspool::kPlaceNames);
  names["kind of instruction"] = listed(unspool::kKindNames);
  names["phase"] = listed(unspool::kPhaseNames);
  names["mode of operands"] = listed(unspool::kOperandNames);
  m.attr("names") = names;
  nb::class_<unspool::Plan>(m, "Plan", "A checked plan: what one step does, in terms of arrays.");
  m.def("make_plan", &make_plan, "storages"_a, "instructions"_a, "constants"_a, "indices"_a, "arrays"_a,
        "weights"_a, "backward"_a, "Check tables and make a plan of them. Raises ValueError where they do not fit.");
  nb::class_<OwnedLayout>(m, "Layout", "Where the valid steps of a batch lie: blocks of rows, and their live rows per step.")
      .def("__init__", &make_layout, "tokens"_a, "rows"_a, "row_start"_a, "counts"_a, "offsets"_a, "times"_a, "sequences"_a);
  nb::class_<unspool::Workspace>(m, "Workspace", "Packed weights that are kept for the next run of the same plan.")
      .def(nb::init<>());
  m.def("run_f32", &run<float>, "plan"_a, "layout"_a, "arrays"_a, "weights"_a, "threads"_a, "workspace"_a.none() = nb::none(),
        "Run a plan in float32.");
  m.def("run_f64", &run<double>, "plan"_a, "layout"_a, "arrays"_a, "weights"_a, "threads"_a,
        "workspace"_a.none() = nb::none(), "Run a plan in float64.");
  m.def("available_isas", &unspool::available_isas, "Instruction sets that can run here, best last.");
  m.def("active_isa", [] { return unspool::active_isa(); }, "The instruction set in use.");
  m.def("measure_peak_gflops", &unspool::measure_peak_gflops, "seconds"_a, nb::call_guard<nb::gil_scoped_release>(),
        "GFLOP/s of multiply-adds in registers on one thread.");
}
