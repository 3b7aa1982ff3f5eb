#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pyruntime {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// CPU share of the cgroup (v2, then v1), rounded up; 0 if unlimited or unknown.
int cgroup_cpus() {
  long quota = -1, period = 0;
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    char word[32] = {};
    if (std::fscanf(f, "%31s %ld", word, &period) == 2 && std::strcmp(word, "max") != 0)
      quota = std::atol(word);
    std::fclose(f);
  } else {
    if (FILE* q = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) {
      if (std::fscanf(q, "%ld", &quota) != 1) quota = -1;
      std::fclose(q);
    }
    if (FILE* p = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r")) {
      if (std::fscanf(p, "%ld", &period) != 1) period = 0;
      std::fclose(p);
    }
  }
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::max<long>(1, (quota + period - 1) / period));
}

}  // namespace

std::shared_ptr<ThreadPool> shared_thread_pool(int num_threads) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<ThreadPool>> pools;
  std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<ThreadPool> pool = pools[num_threads].lock();
  if (pool == nullptr) pools[num_threads] = pool = std::make_shared<ThreadPool>(num_threads);
  return pool;
}

int default_num_threads() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = CPU_COUNT(&set);
#endif
  const int quota = cgroup_cpus();
  if (quota > 0) cpus = std::min(cpus, quota);
  return std::max(cpus, 1);
}

FlushSubnormals::FlushSubnormals() {
#if defined(__x86_64__)
  saved_ = _mm_getcsr();
  _mm_setcsr(saved_ | 0x8040u);  // FTZ | DAZ
#endif
}

FlushSubnormals::~FlushSubnormals() {
#if defined(__x86_64__)
  _mm_setcsr(saved_);
#endif
}

// A job is published by one store to `ticket`: generation in the high half, unclaimed tasks in the low half.
// A thread claims a task by decrementing the low half of the generation it saw, so a worker that wakes late
// can never touch the next job, and the caller need not wait for workers that are still asleep: it waits for
// the tasks alone.
struct ThreadPool::Impl {
  std::mutex callers;  // one parallel_for at a time
  std::mutex mutex;    // guards sleeping
  std::condition_variable wake;
  std::vector<std::thread> threads;
  pid_t pid = getpid();

  alignas(64) std::atomic<uint64_t> ticket{0};
  const TaskRef* task = nullptr;  // valid while unfinished > 0; fetched from the other core with the ticket
  alignas(64) std::atomic<int> unfinished{0};
  alignas(64) std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};

  static uint32_t generation(uint64_t t) { return static_cast<uint32_t>(t >> 32); }

  // Runs tasks of job `job` until none is left to claim.
  void claim(uint32_t job, int thread) {
    uint64_t t = ticket.load(std::memory_order_acquire);
    while (generation(t) == job && static_cast<uint32_t>(t) != 0) {
      if (!ticket.compare_exchange_weak(t, t - 1, std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      (*task)(static_cast<int>(static_cast<uint32_t>(t)) - 1, thread);
      unfinished.fetch_sub(1, std::memory_order_release);
      t = ticket.load(std::memory_order_acquire);
    }
  }

  // Waits for a job other than `seen`; spins, then sleeps.
  uint32_t wait(uint32_t seen) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    for (int spins = 0;; ++spins) {
      const uint32_t now = generation(ticket.load(std::memory_order_acquire));
      if (now != seen || stop.load(std::memory_order_relaxed)) return now;
      pause();
      if ((spins & 63) == 63 && std::chrono::steady_clock::now() > deadline) break;
    }
    std::unique_lock<std::mutex> lock(mutex);
    sleeping.fetch_add(1);
    wake.wait(lock, [&] { return generation(ticket.load()) != seen || stop.load(); });
    sleeping.fetch_sub(1);
    return generation(ticket.load(std::memory_order_acquire));
  }

  void work(int thread, uint32_t seen) {
    FlushSubnormals flush;
    for (;;) {
      const uint32_t job = wait(seen);
      if (stop.load()) return;
      seen = job;
      claim(job, thread);
    }
  }

  void start(int workers) {
    const uint32_t seen = generation(ticket.load());
    for (int i = 0; i < workers; ++i) threads.emplace_back([this, i, seen] { work(i + 1, seen); });
  }

  // Publishes job `job` with so many tasks. By the holder of `callers`.
  void publish(uint32_t job, uint32_t tasks) {
    ticket.store((static_cast<uint64_t>(job) << 32) | tasks);
    if (sleeping.load() == 0) return;
    {
      std::lock_guard<std::mutex> lock(mutex);
    }
    wake.notify_all();
  }

  void shut_down() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stop.store(true);
    }
    wake.notify_all();
    for (std::thread& t : threads) t.join();
  }
};

ThreadPool::ThreadPool(int num_threads) : num_threads_(std::max(num_threads, 1)), impl_(new Impl) {}

ThreadPool::~ThreadPool() {
  if (impl_->pid != getpid())
    return;  // forked child: the threads belong to the parent, joining them would hang
  impl_->shut_down();
  delete impl_;
}

void ThreadPool::run(int tasks, TaskRef f) {
  FlushSubnormals flush;
  if (num_threads_ > 1 && tasks > 1) {
    if (impl_->pid != getpid())
      impl_ = new Impl;  // first use in a forked child; the old state is leaked on purpose
    while (tasks > 1) {
      std::unique_lock<std::mutex> turn(impl_->callers, std::try_to_lock);
      if (turn.owns_lock()) return run_together(tasks, f);
      f(--tasks, 0);
    }
  }
  while (tasks > 0) f(--tasks, 0);
}

void ThreadPool::wake() {
  if (impl_->sleeping.load() == 0 || impl_->pid != getpid()) return;
  std::unique_lock<std::mutex> turn(impl_->callers, std::try_to_lock);
  if (!turn.owns_lock()) return;
  // A job without tasks: workers find nothing to claim and spin for the next one.
  impl_->publish(Impl::generation(impl_->ticket.load(std::memory_order_relaxed)) + 1, 0);
}

void ThreadPool::run_together(int tasks, const TaskRef& f) {
  Impl& pool = *impl_;
  if (pool.threads.empty()) pool.start(num_threads_ - 1);
  pool.task = &f;
  pool.unfinished.store(tasks, std::memory_order_relaxed);
  const uint32_t job = Impl::generation(pool.ticket.load(std::memory_order_relaxed)) + 1;
  // The caller's first task is claimed before the others hear of the job: one access to the ticket less that
  // both want.
  pool.publish(job, static_cast<uint32_t>(tasks - 1));
  f(tasks - 1, 0);
  pool.unfinished.fetch_sub(1, std::memory_order_release);
  pool.claim(job, 0);
  while (pool.unfinished.load(std::memory_order_acquire) != 0) pause();
}

}  // namespace pyruntime
