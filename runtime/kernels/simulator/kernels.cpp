// One build of the kernels for the simulator; HERON_BUILD names the function that lists them.
#include "shim.h"

namespace {
#include "../heron.cu"
}

extern "C" const heron::Kernel* HERON_BUILD() { return first_kernel; }
