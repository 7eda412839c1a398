// A long run looks up from its work now and then, and asks whether it shall go on.
#pragma once

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>

namespace unspool {

// A callable that is borrowed for the duration of a call: no allocation, unlike std::function.
template <class Signature>
class FunctionRef;

template <class R, class... Arguments>
class FunctionRef<R(Arguments...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Arguments... arguments) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Arguments>(arguments)...);
        }) {}
  R operator()(Arguments... arguments) const { return call_(object_, std::forward<Arguments>(arguments)...); }

 private:
  void* object_;
  R (*call_)(void*, Arguments...);
};

// What Watch::look throws once the run shall not go on.
struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("the run was stopped") {}
};

class Watch {
 public:
  static constexpr auto interval = std::chrono::milliseconds(100);

  // `stop` is asked on the thread that makes the watch, once in an interval at most, and tells whether to stop. It may
  // begin another run.
  explicit Watch(FunctionRef<bool()> stop) : stop_(stop) {}

  bool is_mine() const { return std::this_thread::get_id() == owner_; }

  // Every thread of the run calls this between two pieces of its work.
  void look() {
    if (stopped_.load(std::memory_order_relaxed)) throw Stopped();
    if (!is_mine()) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    if (stop_()) stopped_.store(true, std::memory_order_relaxed);
    next_ = std::chrono::steady_clock::now() + interval;
    if (stopped_.load(std::memory_order_relaxed)) throw Stopped();
  }

 private:
  const FunctionRef<bool()> stop_;
  const std::thread::id owner_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + interval;
  std::atomic<bool> stopped_{false};
};

}  // namespace unspool
