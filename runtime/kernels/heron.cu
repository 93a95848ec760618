// Every kernel, by the name the host launches it under. HERON_LOG_N, where defined, leaves out the transforms of other rings.
#ifndef HERON_SIMULATOR
#include "device.cuh"
#endif
#include "automorphism.cuh"
#include "encode.cuh"
#include "extend_columns.cuh"
#include "extension.cuh"
#include "key_product.cuh"
#include "linear_sums.cuh"
#include "ntt.cuh"
#include "pipes.cuh"
#include "pointwise.cuh"
#include "product.cuh"
#include "rotated_sums.cuh"
#include "rows_key_product.cuh"
#include "shared_products.cuh"

HERON_KERNEL(zero, PointwiseArgs) { pointwise_zero(args); }
HERON_KERNEL(copy, PointwiseArgs) { pointwise_copy(args); }
HERON_KERNEL(add, PointwiseArgs) { pointwise_add(args); }
HERON_KERNEL(subtract, PointwiseArgs) { pointwise_subtract(args); }
HERON_KERNEL(negate, PointwiseArgs) { pointwise_negate(args); }
HERON_KERNEL(multiply, PointwiseArgs) { pointwise_multiply(args); }
HERON_KERNEL(scale, PointwiseArgs) { pointwise_scale(args); }
HERON_KERNEL(add_constant, PointwiseArgs) { pointwise_add_constant(args); }
HERON_KERNEL(add_scaled, PointwiseArgs) { pointwise_add_scaled(args); }
HERON_KERNEL(multiply_imaginary, PointwiseArgs) { pointwise_multiply_imaginary(args); }
HERON_KERNEL(automorphism_values, AutomorphismArgs) { automorphism_values(args); }
HERON_KERNEL(automorphism_coefficients, AutomorphismArgs) { automorphism_coefficients(args); }
HERON_KERNEL(pipe_high, PipeArgs) { pipe_high(args); }
HERON_KERNEL(pipe_wide, PipeArgs) { pipe_wide(args); }
HERON_KERNEL(pipe_double, PipeArgs) { pipe_double(args); }
HERON_KERNEL(pipe_montgomery, PipeArgs) { pipe_montgomery(args); }
HERON_KERNEL(residues, EncodeArgs) { residues(args); }
HERON_KERNEL(small_transform, EncodeArgs) { small_transform(args); }
HERON_KERNEL(extend, ExtensionArgs) { extend(args); }
HERON_KERNEL(inner_products, ProductArgs) { inner_products(args); }
HERON_KERNEL(shared_products, SharedProductsArgs) { shared_products(args); }
HERON_KERNEL(key_product, KeyProductArgs) { key_product(args); }
HERON_LARGE_KERNEL(linear_sums, LinearSumsArgs, 2) { linear_sums(args); }
HERON_KERNEL(rotated_sums, RotatedSumsArgs) { rotated_sums(args); }

// log2 rows and log2 columns of each ring.
#define HERON_COLUMNS(stages)                                                                 \
    HERON_KERNEL(forward_columns_##stages, TransformArgs) { forward_columns<stages>(args); } \
    HERON_KERNEL(backward_columns_##stages, TransformArgs) { backward_columns<stages>(args); } \
    HERON_LARGE_KERNEL(extend_columns_##stages, ExtensionArgs, 2) { extend_columns<stages>(args); }
#define HERON_ROWS(stages)                                                              \
    HERON_KERNEL(forward_rows_##stages, TransformArgs) { forward_rows<stages>(args); } \
    HERON_KERNEL(backward_rows_##stages, TransformArgs) { backward_rows<stages>(args); } \
    HERON_LARGE_KERNEL(rows_key_product_##stages, KeyProductArgs, 1) { rows_key_product<stages>(args); }

#if !defined(HERON_LOG_N) || HERON_LOG_N == 8 || HERON_LOG_N == 9
HERON_COLUMNS(4)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 10 || HERON_LOG_N == 11
HERON_COLUMNS(5)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 12 || HERON_LOG_N == 13
HERON_COLUMNS(6)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 14 || HERON_LOG_N == 15 || HERON_LOG_N == 16
HERON_COLUMNS(7)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 17
HERON_COLUMNS(8)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 8
HERON_ROWS(4)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 9 || HERON_LOG_N == 10
HERON_ROWS(5)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 11 || HERON_LOG_N == 12
HERON_ROWS(6)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 13 || HERON_LOG_N == 14
HERON_ROWS(7)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 15
HERON_ROWS(8)
#endif
#if !defined(HERON_LOG_N) || HERON_LOG_N == 16 || HERON_LOG_N == 17
HERON_ROWS(9)
#endif
