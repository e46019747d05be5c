// Loops over a whole model's weights are compiled for wider vectors too, where the compiler can have the loader choose.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define GRETA_WIDER_VECTORS [[gnu::target_clones("avx512f", "avx2", "default")]]
#else
#define GRETA_WIDER_VECTORS
#endif
