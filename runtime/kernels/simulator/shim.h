// CUDA's words for a C++ compiler of the host. Included before the kernels, which are inside an anonymous namespace: one binary holds
// several builds of them.
#pragma once
#include "engine.h"

#define HERON_SIMULATOR
#define HERON_DEVICE inline
#define HERON_SHARED(type, name) type* name = static_cast<type*>(heron::block_memory)
#define threadIdx heron::thread_index
#define blockIdx heron::block_index
#define blockDim heron::block_size
#ifdef HERON_WITHOUT_BARRIERS
#define __syncthreads() ((void)0)
#else
#define __syncthreads() heron::barrier()
#endif

namespace {

inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<long long>(a) * b) >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}

const heron::Kernel* first_kernel = nullptr;

struct Register {
    heron::Kernel kernel;
    Register(const char* name, size_t args_size, heron::Body body) : kernel{name, args_size, body, first_kernel} {
        first_kernel = &kernel;
    }
};

}  // namespace

// Arguments arrive as bytes of the launch, alive while it runs.
#define HERON_KERNEL(name, Args)                                                                                           \
    void heron_##name(const Args& args);                                                                                   \
    const Register register_##name("heron_" #name, sizeof(Args),                                                          \
                                   [](const void* args) { heron_##name(*static_cast<const Args*>(args)); });                \
    void heron_##name(const Args& args)
#define HERON_LARGE_KERNEL(name, Args, blocks) HERON_KERNEL(name, Args)
