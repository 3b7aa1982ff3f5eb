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
#include <pthread.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pyruntime {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);
constexpr int kTouch = 16;  // turns of the spin after which a worker fetches its own seat
// Generations are compared by their difference, so seats may not fall 2^31 jobs behind: all are brought up to
// date once in so many. The first lies shortly before the wrap, so that every process, every test, runs
// through it.
constexpr uint32_t kRefresh = 1u << 30;
constexpr uint32_t kFirstGeneration = ~0u - 255;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// How many forks lie between the process that loaded the library and this one. (getpid() is a system call
// that takes 100 ns, once per layer.)
std::atomic<int> forks{0};
const int watches_forks = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); });

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

// A job is published by one store to `ticket`: generation in the high half, number of tasks in the low half.
// Every thread has a share of them (`share_of`), which it claims from its own seat; when that is used up it
// claims from the seats of others. So a thread that comes in time touches no line that others write but that
// of the job: two cache lines change hands per job, the job's on the way to a worker, the worker's seat on
// the way back. The caller need not wait for workers that are still asleep: it claims their shares, and waits
// for the tasks alone.
//
// A seat of an earlier generation stands for a share nobody has touched, so nobody need prepare the seats. A
// worker that wakes late can never touch a later job: all shares of its own job are then claimed, and it
// leaves seats of later generations alone.
struct ThreadPool::Impl {
  struct Ticket {  // both halves of a 64-bit word
    uint32_t generation, count;
    explicit Ticket(uint64_t word)
        : generation(static_cast<uint32_t>(word >> 32)), count(static_cast<uint32_t>(word)) {}
    static uint64_t word(uint32_t generation, uint32_t count) {
      return (static_cast<uint64_t>(generation) << 32) | count;
    }
  };

  struct Seat {
    // Generation, and the tasks of the share that nobody has claimed.
    alignas(64) std::atomic<uint64_t> unclaimed{Ticket::word(kFirstGeneration, 0)};
    std::atomic<int> touched{0};
    // Generation, and the tasks that this thread has finished.
    alignas(64) std::atomic<uint64_t> done{Ticket::word(kFirstGeneration, 0)};
  };

  struct Share {
    uint32_t begin, end;
  };

  std::mutex callers;  // one parallel_for at a time
  std::mutex mutex;    // guards sleeping
  std::condition_variable wake;
  std::vector<std::thread> threads;
  int home = forks.load(std::memory_order_relaxed);  // the process whose threads these are
  std::vector<Seat> seats;

  alignas(64) std::atomic<uint64_t> ticket{Ticket::word(kFirstGeneration, 0)};
  TaskRef task;  // of the job; read by those who have claimed a task of it
  alignas(64) std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};

  explicit Impl(int num_threads) : seats(static_cast<size_t>(num_threads)) {}

  // In a forked child, which has none of the threads.
  bool is_abroad() const { return home != forks.load(std::memory_order_relaxed); }

  uint32_t generation() const { return Ticket(ticket.load(std::memory_order_relaxed)).generation; }

  // The tasks of a job that thread `thread` claims first. Task 0 is the caller's, thread 0, without a claim:
  // of few tasks it has no other, and then nobody looks at its seat.
  Share share_of(size_t thread, uint32_t tasks) const {
    const auto bound = [&](uint64_t t) {
      return static_cast<uint32_t>((tasks * t + seats.size() - 1) / seats.size());
    };
    return {thread == 0 ? 1 : bound(thread), bound(thread + 1)};
  }

  // Claims a task of `job` from the share of `owner`.
  bool claim(size_t owner, Ticket job, int* task_index) {
    const Share share = share_of(owner, job.count);
    if (share.begin >= share.end) return false;
    std::atomic<uint64_t>& unclaimed = seats[owner].unclaimed;
    uint64_t word = unclaimed.load(std::memory_order_acquire);
    for (;;) {
      const Ticket seen(word);
      if (static_cast<int32_t>(seen.generation - job.generation) > 0) return false;
      const uint32_t left = seen.generation == job.generation ? seen.count : share.end - share.begin;
      if (left == 0) return false;
      if (unclaimed.compare_exchange_weak(word, Ticket::word(job.generation, left - 1),
                                          std::memory_order_acq_rel, std::memory_order_acquire)) {
        *task_index = static_cast<int>(share.end - left);
        return true;
      }
    }
  }

  // Runs tasks of `job` until none is left to claim; `finished` of them this thread has run before.
  void run_tasks(Ticket job, size_t thread, uint32_t finished) {
    for (size_t i = 0, owner = thread; i < seats.size() && generation() == job.generation; ++i) {
      for (int index = 0; claim(owner, job, &index);) {
        task(index, static_cast<int>(thread));
        seats[thread].done.store(Ticket::word(job.generation, ++finished), std::memory_order_release);
      }
      owner = owner + 1 < seats.size() ? owner + 1 : 0;
    }
  }

  bool is_done(Ticket job) const {
    uint32_t finished = 0;
    for (const Seat& seat : seats) {
      const Ticket done(seat.done.load(std::memory_order_acquire));
      if (done.generation == job.generation) finished += done.count;
    }
    return finished == job.count;
  }

  // Waits for a job other than `seen`; spins, then sleeps.
  Ticket wait(uint32_t seen, Seat* seat) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    for (int spins = 0;; ++spins) {
      const Ticket now(ticket.load(std::memory_order_acquire));
      if (now.generation != seen || stop.load(std::memory_order_relaxed)) return now;
      // The caller has looked at this seat for something to take over. A store brings the line back, before
      // the next claim has to wait 100 ns for it.
      if (spins == kTouch) seat->touched.store(spins, std::memory_order_relaxed);
      pause();
      if ((spins & 63) == 63 && std::chrono::steady_clock::now() > deadline) break;
    }
    std::unique_lock<std::mutex> lock(mutex);
    sleeping.fetch_add(1);
    wake.wait(lock, [&] { return Ticket(ticket.load()).generation != seen || stop.load(); });
    sleeping.fetch_sub(1);
    return Ticket(ticket.load(std::memory_order_acquire));
  }

  void work(size_t thread, uint32_t seen) {
    FlushSubnormals flush;
    for (;;) {
      const Ticket job = wait(seen, &seats[thread]);
      if (stop.load()) return;
      seen = job.generation;
      run_tasks(job, thread, 0);
    }
  }

  void start() {
    const uint32_t seen = generation();
    for (size_t i = 1; i < seats.size(); ++i) threads.emplace_back([this, i, seen] { work(i, seen); });
  }

  // As after a job of this generation in which every thread had a share. Nobody else writes to seats between
  // jobs.
  void refresh(uint32_t last) {
    for (Seat& seat : seats) {
      seat.unclaimed.store(Ticket::word(last, 0), std::memory_order_relaxed);
      seat.done.store(Ticket::word(last, 0), std::memory_order_relaxed);
    }
  }

  // The next job, of so many tasks. By the holder of `callers`. The store is not waited for: a worker who
  // falls asleep in this moment may miss the job, not the next one.
  Ticket publish(uint32_t tasks) {
    const Ticket job(Ticket::word(generation() + 1, tasks));
    if (job.generation % kRefresh == 0) refresh(job.generation - 1);
    ticket.store(Ticket::word(job.generation, tasks), std::memory_order_release);
    if (sleeping.load(std::memory_order_relaxed) == 0) return job;
    {
      std::lock_guard<std::mutex> lock(mutex);
    }
    wake.notify_all();
    return job;
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

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(std::max(num_threads, 1)), impl_(new Impl(num_threads_)) {}

ThreadPool::~ThreadPool() {
  if (impl_->is_abroad()) return;  // forked child: the threads belong to the parent, joining them would hang
  impl_->shut_down();
  delete impl_;
}

void ThreadPool::run(int tasks, TaskRef f) {
  if (num_threads_ > 1 && tasks > 1) {
    if (impl_->is_abroad())
      impl_ = new Impl(num_threads_);  // first use in a forked child; the old state is leaked on purpose
    while (tasks > 1) {
      std::unique_lock<std::mutex> turn(impl_->callers, std::try_to_lock);
      if (turn.owns_lock()) return run_together(tasks, f);
      f(--tasks, 0);
    }
  }
  while (tasks > 0) f(--tasks, 0);
}

void ThreadPool::wake() {
  if (impl_->sleeping.load() == 0 || impl_->is_abroad()) return;
  std::unique_lock<std::mutex> turn(impl_->callers, std::try_to_lock);
  if (turn.owns_lock()) impl_->publish(0);  // workers find nothing to claim and spin for the next job
}

void ThreadPool::run_together(int tasks, const TaskRef& f) {
  Impl& pool = *impl_;
  if (pool.threads.empty()) pool.start();
  pool.task = f;
  const Impl::Ticket job = pool.publish(static_cast<uint32_t>(tasks));
  f(0, 0);
  pool.seats[0].done.store(Impl::Ticket::word(job.generation, 1), std::memory_order_relaxed);
  pool.run_tasks(job, 0, 1);
  while (!pool.is_done(job)) pause();
}

}  // namespace pyruntime
