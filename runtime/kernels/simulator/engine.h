// What the simulator offers to kernels: the coordinates of the running thread, the block's shared memory, barriers.
#pragma once
#include <cstddef>

namespace heron {

struct Index {
    unsigned x, y, z;
};

// The running thread's; set by the engine before each thread.
extern thread_local Index thread_index, block_index, block_size, grid_size;
extern thread_local void* block_memory;

// Waits until all threads of the block are here.
void barrier();

typedef void (*Body)(const void* args);

// A kernel by name. Kernels of one build are a list.
struct Kernel {
    const char* name;
    size_t args_size;
    Body body;
    const Kernel* next;
};

}  // namespace heron
