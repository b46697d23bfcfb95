// Turns the CPU's bf16 dot product (AVX512_BF16) on for what follows in a file
// on AVX3: Highway 1.0.3 has neither the operation nor a target for it. To be
// included behind highway.h and before all that has kernels; such a file's
// functions are for MultipliesBF16() (target.h). Has no guard, for it is to act
// for each target.
#if HWY_TARGET == HWY_AVX3
#undef HWY_TARGET_STR
#define HWY_TARGET_STR HWY_TARGET_STR_AVX3 ",avx512bf16"
#endif
