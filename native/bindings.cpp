// What Python sees of the engine. Of Python know this file and tensors.hpp alone.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <tuple>

#include "executor.hpp"
#include "isa.hpp"
#include "operation_names.hpp"
#include "tensors.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Table = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

unspool::OperandRef operand(const int64_t* at) {
  return {at[0], at[1], static_cast<unspool::Operand>(at[2])};
}

// A plan, and which of the tensors of a run stand for its arrays and weights, and how.
struct BoundPlan {
  unspool::Plan plan;
  std::vector<size_t> array_at, weight_at;
  std::vector<unspool::Form> arrays;
  std::vector<unspool::Cut> weights;
  size_t tensors;  // of a run
};

unspool::TensorReader& tensors() {
  static unspool::TensorReader reader;
  return reader;
}

// Arrays: which of a run's tensors each is. Weights: which one each is, whether it is given as [N, K], the first of its
// columns that is taken, and how many are (-1: all).
// Rows: storages [place, array, width, first]; instructions [kind, op, dst(3), width, groups, a(3), b(3), c(3), weight,
// imm0, imm1, phase].
BoundPlan make_plan(Table storages, Table instructions, std::vector<double> constants, std::vector<int64_t> indices,
                    std::vector<size_t> arrays, const std::vector<std::tuple<size_t, bool, int64_t, int64_t>>& weights,
                    bool backward) {
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
  plan.arrays = static_cast<int64_t>(arrays.size());
  plan.weights = static_cast<int64_t>(weights.size());
  plan.backward = backward;
  plan.validate();
  BoundPlan bound{std::move(plan), std::move(arrays), {}, {}, {}, 0};
  bound.arrays = unspool::forms_of(bound.plan);
  for (const auto& [at, transposed, first, columns] : weights) {
    bound.weight_at.push_back(at);
    bound.weights.push_back({transposed, first, columns});
  }
  for (const auto* places : {&bound.array_at, &bound.weight_at})
    for (size_t at : *places) bound.tensors = std::max(bound.tensors, at + 1);
  if (bound.tensors > 100'000) throw std::invalid_argument("engine: an absurd number of tensors");
  return bound;
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

// Whether this is the thread on which Python runs the handlers of signals.
bool is_main_thread() {
  static std::atomic<unsigned long> main{0};
  static const int registered = pthread_atfork(nullptr, nullptr, [] { main.store(0); });
  static_cast<void>(registered);
  if (main.load() == 0) main.store(nb::cast<unsigned long>(nb::module_::import_("threading").attr("main_thread")().attr("ident")));
  return main.load() == PyThread_get_thread_ident();
}

template <class T>
void run(const BoundPlan& bound, const OwnedLayout& layout, nb::list tensors, int threads, unspool::Workspace* kept,
         bool one_step) {
  const unspool::Plan& plan = bound.plan;
  if (one_step && layout.view.steps != 1) throw std::invalid_argument("engine: one step in a layout of several");
  if (tensors.size() < bound.tensors) throw std::invalid_argument("engine: fewer tensors than the plan has places for");
  unspool::ArrayReader<T> reader(::tensors(), one_step);
  std::vector<unspool::Array<T>> a;
  std::vector<unspool::Weight<T>> w;
  a.reserve(bound.arrays.size()), w.reserve(bound.weights.size());
  for (size_t i = 0; i < bound.arrays.size(); ++i) a.push_back(reader.array(tensors[bound.array_at[i]], bound.arrays[i]));
  for (size_t i = 0; i < bound.weights.size(); ++i) w.push_back(reader.weight(tensors[bound.weight_at[i]], bound.weights[i]));
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
  m.attr("interface") = 7;  // changes whenever the columns of the tables do
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
  m.def("accept", [](nb::type_object type) { tensors().accept(type); }, "tensor"_a,
        "Take arrays of this type, torch.Tensor. Raises AttributeError where it has no DLPack exchange table.");
  nb::class_<BoundPlan>(m, "Plan", "A checked plan: what one step does, in terms of arrays.");
  m.def("make_plan", &make_plan, "storages"_a, "instructions"_a, "constants"_a, "indices"_a, "arrays"_a,
        "weights"_a, "backward"_a, "Check tables and make a plan of them. Raises ValueError where they do not fit.");
  nb::class_<OwnedLayout>(m, "Layout", "Where the valid steps of a batch lie: blocks of rows, and their live rows per step.")
      .def("__init__", &make_layout, "tokens"_a, "rows"_a, "row_start"_a, "counts"_a, "offsets"_a, "times"_a, "sequences"_a);
  nb::class_<unspool::Workspace>(m, "Workspace", "Packed weights that are kept for the next run of the same plan.")
      .def(nb::init<>());
  m.def("run_f32", &run<float>, "plan"_a, "layout"_a, "tensors"_a, "threads"_a, "workspace"_a.none() = nb::none(),
        "one_step"_a = false, "Run a plan in float32; inputs and outputs of one step are without an axis of time.");
  m.def("run_f64", &run<double>, "plan"_a, "layout"_a, "tensors"_a, "threads"_a, "workspace"_a.none() = nb::none(),
        "one_step"_a = false, "Run a plan in float64.");
  m.def("available_isas", &unspool::available_isas, "Instruction sets that can run here, best last.");
  m.def("active_isa", [] { return unspool::active_isa(); }, "The instruction set in use.");
  m.def("measure_peak_gflops", &unspool::measure_peak_gflops, "seconds"_a, nb::call_guard<nb::gil_scoped_release>(),
        "GFLOP/s of multiply-adds in registers on one thread.");
}
