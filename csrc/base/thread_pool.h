// Caller + N-1 workers, who serve one parallel_for at a time. Every thread has a share of the tasks, and
// takes over those of others when it has finished its own.
//
//  - Workers start on the first parallel_for with more than one task; none are made for one thread or at
//  import.
//  - After fork() the child's pool abandons the parent's threads (they do not exist there) and starts its
//  own.
//  - Idle workers spin for a bounded time (about 50 us), then sleep on a condition variable.
//  - Sessions of one process with as many threads share their pool: the idle workers of one would take the
//    CPU from the other.
//  - num_threads defaults to the CPUs this process may use: min(affinity mask, cgroup quota).
#pragma once

#include <memory>

namespace pyruntime {

// A reference to a callable void(int task, int thread); the callable outlives the call.
class TaskRef {
 public:
  TaskRef() = default;
  template <typename F>
  TaskRef(F& f)  // NOLINT: implicit on purpose
      : object_(&f),
        call_([](void* object, int task, int thread) { (*static_cast<F*>(object))(task, thread); }) {}
  void operator()(int task, int thread) const { call_(object_, task, thread); }

 private:
  void* object_ = nullptr;
  void (*call_)(void*, int, int) = nullptr;
};

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Runs f(task, thread) for every task in [0, tasks); thread is in [0, num_threads()) and no two tasks run
  // on the same thread index at once. Returns when all are done. f must not throw. While the workers serve
  // another caller, the tasks run one by one on the calling thread. Workers flush subnormals; whether the
  // caller does is its own affair (FlushSubnormals).
  template <typename F>
  void parallel_for(int tasks, F&& f) {
    run(tasks, TaskRef(f));
  }

  // Wakes workers that sleep and returns at once: who is about to do some work alone first, and then share
  // more, need not wait for them then. Does nothing while they serve another caller.
  void wake();

 private:
  struct Impl;
  void run(int tasks, TaskRef f);
  void run_together(int tasks, const TaskRef& f);  // by the holder of the lock on callers

  int num_threads_;
  Impl* impl_;  // deliberately leaked in a forked child, hence no smart pointer
};

// The pool of the process with so many threads, as long as anybody holds it.
std::shared_ptr<ThreadPool> shared_thread_pool(int num_threads);

// CPUs this process may use, at least 1.
int default_num_threads();

// While alive, float subnormals are flushed to zero on the calling thread (x86: FTZ and DAZ of MXCSR).
class FlushSubnormals {
 public:
  FlushSubnormals();
  ~FlushSubnormals();
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  unsigned saved_ = 0;
};

}  // namespace pyruntime
