// Tensors of PyTorch as the engine's arrays, read where they are: no capsule, no view, no Python in between.
//
// PyTorch hands out a table of C functions with its tensor type (DLPack's exchange interface), one of which describes a
// tensor's memory. It keeps no reference, so that whoever calls must hold the tensors.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "plan.hpp"

namespace unspool {

namespace nb = nanobind;
using nb::dlpack::dltensor;

// What `torch.Tensor.__dlpack_c_exchange_api__` holds, in the form of DLPack 1.
struct ExchangeTable {
  struct {
    uint32_t major, minor;
  } version;
  void* older;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*describe)(void* object, dltensor* out);
  void* stream;
};

class TensorReader {
 public:
  // `type` is torch.Tensor.
  void accept(nb::type_object type) {
    nb::object capsule = type.attr("__dlpack_c_exchange_api__");
    const auto* table = static_cast<const ExchangeTable*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (!table) throw nb::python_error();
    if (table->version.major != 1 || !table->describe) throw std::invalid_argument("engine: another version of DLPack");
    table_ = table;
    type_ = reinterpret_cast<PyTypeObject*>(type.release().ptr());  // it lives as long as the process
  }

  template <class T>
  dltensor describe(nb::handle object) const {
    if (!table_) throw std::runtime_error("engine: no type of tensors was accepted");
    if (!PyObject_TypeCheck(object.ptr(), type_)) throw std::invalid_argument("engine: something that is no tensor");
    dltensor found;
    if (table_->describe(object.ptr(), &found)) throw nb::python_error();
    if (found.device.device_type != nb::device::cpu::value) throw std::invalid_argument("engine: a tensor that is not on the CPU");
    if (found.dtype != nb::dtype<T>()) throw std::invalid_argument("engine: a tensor of another dtype than the run's");
    found.data = static_cast<char*>(found.data) + found.byte_offset;
    return found;
  }

 private:
  const ExchangeTable* table_ = nullptr;
  PyTypeObject* type_ = nullptr;
};

// What the tables of a plan say of one of its arrays.
struct Form {
  // Nothing that the plan looks at; [rows, ...], [T, B, ...], or features alone, in any shape.
  enum Axes { unused, matrix, padded, vector } axes = unused;
  bool written = false;
};

// What a weight of a plan is of the tensor that is given: some columns of it, and whether rows of it are columns of W.
struct Cut {
  bool transposed;
  int64_t first, columns;  // -1: all
};

// One for each array of a checked plan.
inline std::vector<Form> forms_of(const Plan& plan) {
  std::vector<Form> forms(static_cast<size_t>(plan.arrays));
  const auto has_array = [](Place place) {
    return place != Place::temp && place != Place::chunk && place != Place::scalar && place != Place::none;
  };
  const auto of = [&](int64_t array) -> Form& { return forms[static_cast<size_t>(array)]; };
  for (const Storage& s : plan.storages) {
    if (!has_array(s.place)) continue;
    const bool is_padded = s.place == Place::padded || s.place == Place::padded_previous;
    of(s.array).axes = is_padded ? Form::padded : s.place == Place::vector ? Form::vector : Form::matrix;
    if (s.place == Place::previous || s.place == Place::padded_previous) of(s.first).axes = Form::matrix;
  }
  for (const Instruction& in : plan.instructions) {
    const Storage& s = plan.storages[static_cast<size_t>(in.dst.storage)];
    if (has_array(s.place)) of(s.array).written = true;
  }
  return forms;
}

// The arrays of a run. What is only read may lie in any way, and is copied where its features do not lie side by side.
template <class T>
class ArrayReader {
 public:
  // Where there is one step, padded arrays have no axis of time.
  ArrayReader(const TensorReader& tensors, bool one_step) : tensors_(tensors), time_(one_step ? 0 : 1) {}

  Array<T> array(nb::handle object, const Form& form) {
    if (form.axes == Form::unused) return {nullptr, 0, 0, 0};
    const dltensor t = tensors_.describe<T>(object);
    const int apart = form.axes == Form::padded ? time_ + 1 : form.axes == Form::matrix ? 1 : 0;  // axes with a stride
    if (t.ndim < apart) throw std::invalid_argument("engine: an array with too few axes");
    int64_t size[2] = {1, 1}, stride[2] = {0, 0}, width = 1;
    for (int i = apart; i < t.ndim; ++i) width *= t.shape[i];
    for (int i = 0; i < apart; ++i) size[i] = t.shape[i], stride[i] = t.strides[i];
    T* data = static_cast<T*>(t.data);
    // Rows of a matrix are apart; those of a padded array may be the same in memory, as those of an expanded gradient.
    const bool fits = side_by_side(t, apart) && (form.axes != Form::matrix || size[0] <= 1 || stride[0] >= width);
    if (!fits && size[0] * size[1] * width > 0) {
      if (form.written) throw std::invalid_argument("engine: features of an array that is written do not lie side by side");
      data = copied(t);
      stride[0] = (apart == 2 ? size[1] : 1) * width, stride[1] = width;
    }
    if (form.axes == Form::padded && !time_) return {data, 1, width, size[0] * stride[0], size[0], stride[0]};
    if (form.axes == Form::padded) return {data, size[0], width, stride[0], size[1], stride[1]};
    return {data, size[0], width, size[0] > 1 ? stride[0] : width};
  }

  Weight<T> weight(nb::handle object, const Cut& cut) const {
    const dltensor t = tensors_.describe<T>(object);
    if (t.ndim != 2) throw std::invalid_argument("engine: a weight is not a matrix");
    const int64_t columns = cut.columns < 0 ? t.shape[1] : cut.columns;
    if (cut.first < 0 || columns > t.shape[1] || cut.first > t.shape[1] - columns)
      throw std::invalid_argument("engine: a weight has fewer columns than its product takes");
    const T* data = static_cast<const T*>(t.data) + cut.first * t.strides[1];
    if (cut.transposed) return {data, columns, t.shape[0], t.strides[1], t.strides[0]};
    return {data, t.shape[0], columns, t.strides[0], t.strides[1]};
  }

 private:
  // Whether the axes from `first` on are one in memory.
  static bool side_by_side(const dltensor& t, int first) {
    int64_t expected = 1;
    for (int i = t.ndim - 1; i >= first; --i) {
      if (t.shape[i] != 1 && t.strides[i] != expected) return false;
      expected *= t.shape[i];
    }
    return true;
  }

  T* copied(const dltensor& t) {
    int64_t count = 1;
    for (int i = 0; i < t.ndim; ++i) count *= t.shape[i];
    copies_.emplace_back(new T[static_cast<size_t>(count)]);
    T* to = copies_.back().get();
    std::vector<int64_t> at(static_cast<size_t>(t.ndim));
    const T* from = static_cast<const T*>(t.data);
    for (int64_t n = 0; n < count; ++n) {
      to[n] = *from;
      for (int i = t.ndim - 1; i >= 0; --i) {
        const auto axis = static_cast<size_t>(i);
        from += t.strides[i];
        if (++at[axis] < t.shape[i]) break;
        from -= t.strides[i] * t.shape[i], at[axis] = 0;
      }
    }
    return to;
  }

  const TensorReader& tensors_;
  const int time_;  // the axes of time that padded arrays have
  std::vector<std::unique_ptr<T[]>> copies_;
};

}  // namespace unspool
