// Runs a launch: blocks one after the other in a shuffled order, the threads of a block as fibers, in an order that is shuffled anew
// between barriers. Shared memory is poisoned before each block. What this cannot show: races between blocks, and divergence of warps.
#include "engine.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define HERON_ADDRESS_SANITIZER
#endif

namespace heron {

thread_local Index thread_index, block_index, block_size, grid_size;
thread_local void* block_memory;

namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr unsigned MOST_THREADS = 1024;

struct Order {
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    // Fisher and Yates.
    template <class T>
    void shuffle(std::vector<T>& items) {
        for (size_t i = items.size(); i > 1; i--) std::swap(items[i - 1], items[next() % i]);
    }
};

#if defined(__x86_64__)
// Keeps what a call preserves on the old stack and continues on the new one.
extern "C" void heron_switch(void** from, void* to);
asm(R"(
.text
.type heron_switch, @function
heron_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size heron_switch, .-heron_switch
)");
#endif

struct Fiber {
    unsigned char* stack = nullptr;
#if defined(__x86_64__)
    void* top = nullptr;
#else
    ucontext_t context;
#endif
    bool finished = true;
    void* fake_stack = nullptr;
};

struct Engine {
    std::vector<Fiber> fibers;
#if defined(__x86_64__)
    void* scheduler = nullptr;
#else
    ucontext_t scheduler;
#endif
    Fiber* running = nullptr;
    Body body = nullptr;
    const void* args = nullptr;
    const void* scheduler_stack = nullptr;
    size_t scheduler_stack_bytes = 0;
    void* scheduler_fake_stack = nullptr;

    ~Engine() {
        for (Fiber& f : fibers) munmap(f.stack, STACK_BYTES);
    }
    void leave();
    void enter(Fiber& fiber);
    bool prepare(unsigned threads);
    void start(Fiber& fiber);
};

thread_local Engine engine;

// Back to the scheduler, for good if the thread has finished.
void Engine::leave() {
    Fiber& self = *running;
#ifdef HERON_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(self.finished ? nullptr : &self.fake_stack, scheduler_stack, scheduler_stack_bytes);
#endif
#if defined(__x86_64__)
    heron_switch(&self.top, scheduler);
#else
    swapcontext(&self.context, &scheduler);
#endif
#ifdef HERON_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(self.fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

void Engine::enter(Fiber& fiber) {
    running = &fiber;
#ifdef HERON_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, STACK_BYTES);
#endif
#if defined(__x86_64__)
    heron_switch(&scheduler, fiber.top);
#else
    swapcontext(&scheduler, &fiber.context);
#endif
#ifdef HERON_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

// Where a thread begins, on its own stack.
void entry() {
#ifdef HERON_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(nullptr, &engine.scheduler_stack, &engine.scheduler_stack_bytes);
#endif
    engine.body(engine.args);
    engine.running->finished = true;
    engine.leave();
    abort();
}

bool Engine::prepare(unsigned threads) {
    while (fibers.size() < threads) {
        void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED) return false;
        Fiber fiber;
        fiber.stack = static_cast<unsigned char*>(stack);
        fibers.push_back(fiber);
    }
    return true;
}

void Engine::start(Fiber& fiber) {
    fiber.finished = false;
    fiber.fake_stack = nullptr;
#if defined(__x86_64__)
    // Six registers, the address to return to, and a word that aligns the stack as after a call.
    void** top = reinterpret_cast<void**>(fiber.stack + STACK_BYTES);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&entry);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber.top = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.context, entry, 0);
#endif
}

const Kernel* find(const Kernel* list, const char* name) {
    while (list && strcmp(list->name, name) != 0) list = list->next;
    return list;
}

}  // namespace

void barrier() { engine.leave(); }

}  // namespace heron

using namespace heron;

// Runs one launch. Returns 0, or 1 with what was wrong in `message`.
extern "C" int heron_simulator_launch(const Kernel* kernels, const char* name, const unsigned grid[3], unsigned threads,
                                      size_t shared_bytes, const void* args, size_t args_size, uint64_t seed, char* message,
                                      size_t message_bytes) {
    const Kernel* kernel = find(kernels, name);
    if (!kernel) {
        snprintf(message, message_bytes, "no kernel of this name");
        return 1;
    }
    if (kernel->args_size != args_size) {
        snprintf(message, message_bytes, "arguments of %zu bytes expected, found %zu", kernel->args_size, args_size);
        return 1;
    }
    if (threads == 0 || threads > MOST_THREADS || !engine.prepare(threads)) {
        snprintf(message, message_bytes, "cannot run %u threads in a block", threads);
        return 1;
    }
    engine.body = kernel->body;
    engine.args = args;
    block_size = {threads, 1, 1};
    grid_size = {grid[0], grid[1], grid[2]};
    Order order{seed};
    std::vector<uint64_t> blocks(size_t{grid[0]} * grid[1] * grid[2]);
    for (size_t i = 0; i < blocks.size(); i++) blocks[i] = i;
    order.shuffle(blocks);
    std::vector<unsigned> alive;
    for (uint64_t block : blocks) {
        block_index = {static_cast<unsigned>(block % grid[0]), static_cast<unsigned>(block / grid[0] % grid[1]),
                       static_cast<unsigned>(block / grid[0] / grid[1])};
        // As large as asked for and no larger, so that the address sanitizer sees a word beyond it.
        void* memory = shared_bytes ? malloc(shared_bytes) : nullptr;
        if (memory) memset(memory, 0xcd, shared_bytes);
        block_memory = memory;
        alive.resize(threads);
        for (unsigned t = 0; t < threads; t++) {
            alive[t] = t;
            engine.start(engine.fibers[t]);
        }
        while (!alive.empty()) {
            order.shuffle(alive);
            std::vector<unsigned> waiting;
            for (unsigned t : alive) {
                thread_index = {t, 0, 0};
                engine.enter(engine.fibers[t]);
                if (!engine.fibers[t].finished) waiting.push_back(t);
            }
            if (!waiting.empty() && waiting.size() != alive.size()) {
                snprintf(message, message_bytes, "%zu threads of a block wait at a barrier that %zu have passed by",
                         waiting.size(), alive.size() - waiting.size());
                free(memory);
                return 1;
            }
            alive.swap(waiting);
        }
        free(memory);
    }
    return 0;
}

// Memory of the simulated device: one allocation each, so that the address sanitizer knows its ends. Poisoned.
extern "C" void* heron_simulator_allocate(size_t bytes) {
    void* memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory) memset(memory, 0xcd, bytes);
    return memory;
}
extern "C" void heron_simulator_free(void* memory) { free(memory); }
