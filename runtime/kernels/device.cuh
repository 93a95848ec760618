// What the kernels take from CUDA, by names that the simulator gives another meaning.
#pragma once

#define HERON_DEVICE __device__ __forceinline__
// The block's dynamic shared memory.
#define HERON_SHARED(type, name) extern __shared__ __align__(16) unsigned char heron_shared[]; type* name = (type*)heron_shared
// A kernel of one argument block, at most 256 threads per block.
#define HERON_KERNEL(name, Args) extern "C" __global__ void __launch_bounds__(256) heron_##name(const __grid_constant__ Args args)
// The same, with as many registers as so many blocks on a multiprocessor leave: where the compiler, left to itself, spills to fit more of them.
#define HERON_LARGE_KERNEL(name, Args, blocks) \
    extern "C" __global__ void __launch_bounds__(256, blocks) heron_##name(const __grid_constant__ Args args)
