// Saccade for C: attention variants chosen by name.
//
//   saccade_problem problem = {.struct_size = sizeof problem,
//       .batch = 1, .q_heads = 8, .kv_heads = 8, .q_len = 1024, .kv_len = 1024,
//       .qk_dim = 64, .v_dim = 64, .mask = SACCADE_MASK_CAUSAL};
//   saccade_plan* plan;
//   if (saccade_plan_create("softmax.flash+rope", &problem, &plan))
//     return fail(saccade_last_error());
//
// Nothing throws. A function that can fail returns a saccade_status, and then
// saccade_last_error() has the sentence. A plan never changes: threads may
// share it, each with its own buffers. Structures begin with their size as the
// caller knows it, so that they may grow; fields that are not set must be zero.
#ifndef SACCADE_C_H_
#define SACCADE_C_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SACCADE_C_API __attribute__((visibility("default")))
#else
#define SACCADE_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t saccade_status;
enum {
  SACCADE_OK = 0,
  SACCADE_INVALID = 1,      // a shape, knob, name or buffer is wrong
  SACCADE_UNSUPPORTED = 2,  // well-formed, but this variant does not offer it
  SACCADE_NOT_FOUND = 3,    // no such variant, knob, file
  SACCADE_EXHAUSTED = 4,    // memory, or the state's capacity
  SACCADE_IO = 5
};

typedef int32_t saccade_dtype;  // of storage; sums and states are f32
enum { SACCADE_F32 = 0, SACCADE_BF16 = 1 };

typedef int32_t saccade_mask;
enum {
  SACCADE_MASK_NONE = 0,
  SACCADE_MASK_CAUSAL = 1,          // key j <= query i + kv_len - q_len
  SACCADE_MASK_CAUSAL_TOP_LEFT = 2  // key j <= query i
};

// What masks of the caller hold, saccade_inputs.attn_mask. See AttnMask in
// saccade/problem.h.
typedef int32_t saccade_attn_mask;
enum {
  SACCADE_ATTN_MASK_NONE = 0,
  SACCADE_ATTN_MASK_BOOLEAN = 1,  // a query attends where it is not 0
  SACCADE_ATTN_MASK_ADDITIVE = 2  // added to scores
};

// What attention is asked for. See Problem in saccade/problem.h.
typedef struct saccade_problem {
  size_t struct_size;  // sizeof(saccade_problem)
  int64_t batch;
  int64_t q_heads, kv_heads;  // q_heads is a multiple of kv_heads
  int64_t q_len, kv_len;      // tokens; kv_len: capacity for extend
  int64_t qk_dim, v_dim;      // width of a head
  saccade_dtype dtype;
  saccade_mask mask;
  int64_t window;  // keys, its own included; 0: no limit
  float scale;     // of scores; 0: the variant's own
  int32_t unused;  // was padding, and may hold anything
  saccade_attn_mask attn_mask;
  float softcap;  // c: scores become c tanh(score / c); 0: none
} saccade_problem;

// A strided view of [batch, heads, len, dim]; strides in elements, the
// innermost is 1. data is not written where a function only reads.
typedef struct saccade_tensor {
  void* data;
  saccade_dtype dtype;
  int64_t batch, heads, len, dim;
  int64_t batch_stride, head_stride, row_stride;
} saccade_tensor;

// Contiguous [batch, heads, len, dim].
SACCADE_C_API saccade_tensor saccade_contiguous(void* data, saccade_dtype dtype,
                                                int64_t batch, int64_t heads,
                                                int64_t len, int64_t dim);

typedef int32_t saccade_mask_element;
enum { SACCADE_ELEMENT_BOOL = 0, SACCADE_ELEMENT_F32, SACCADE_ELEMENT_BF16 };

// A strided view of a caller's mask [batch, heads, q_len, kv_len], heads those
// of queries. A size of 1 stands for all of that dimension, as does a stride of
// 0; strides in elements, a boolean's is a byte. Added numbers below -1e30 hide
// as -infinity does.
typedef struct saccade_mask_view {
  const void* data;
  saccade_mask_element element;
  int64_t batch, heads, q_len, kv_len;
  int64_t batch_stride, head_stride, row_stride, key_stride;
} saccade_mask_view;

// q [B, Hq, Tq, qk_dim], k [B, Hkv, Tk, qk_dim], v [B, Hkv, Tk, v_dim]; what a
// variant wants beyond them in the order of saccade_variant_input; bias: the
// learned parameters of a position's bias, slopes of alibi [1 or B, Hq, 1, 1],
// or zero; attn_mask: what the problem announced, or zero.
typedef struct saccade_inputs {
  size_t struct_size;  // sizeof(saccade_inputs)
  saccade_tensor q, k, v;
  saccade_tensor extra[4];
  saccade_tensor bias;
  saccade_mask_view attn_mask;
} saccade_inputs;

// out [B, Hq, Tq, v_dim]; lse: contiguous f32 [B, Hq, Tq], or null.
typedef struct saccade_outputs {
  size_t struct_size;  // sizeof(saccade_outputs)
  saccade_tensor out;
  float* lse;
} saccade_outputs;

// Shapes as the inputs'. All are overwritten; dbias may be zero.
typedef struct saccade_gradients {
  size_t struct_size;  // sizeof(saccade_gradients)
  saccade_tensor dq, dk, dv;
  saccade_tensor dextra[4];
  saccade_tensor dbias;
} saccade_gradients;

// Bytes that passes want from their caller, aligned to 64.
typedef struct saccade_footprint {
  size_t struct_size;  // sizeof(saccade_footprint)
  size_t forward_scratch, backward_scratch, extend_scratch;
  size_t saved;              // kept from forward for backward
  size_t state;              // carried between extends
  size_t sequences_scratch;  // of forward_sequences
} saccade_footprint;

// Memory of a caller: null and 0 where none is wanted.
typedef struct saccade_bytes {
  void* data;
  size_t size;
} saccade_bytes;

// The library that runs: "0.1.0".
SACCADE_C_API const char* saccade_version(void);

// The last error of the calling thread; "" when there was none. Valid until the
// thread's next failure.
SACCADE_C_API const char* saccade_last_error(void);

// The variants, in report order: 0 .. count - 1. Null beyond.
SACCADE_C_API int64_t saccade_variant_count(void);
SACCADE_C_API const char* saccade_variant_name(int64_t variant);
SACCADE_C_API const char* saccade_variant_title(int64_t variant);
// The n-th input beyond q, k and v; null beyond the last.
SACCADE_C_API const char* saccade_variant_input(int64_t variant, int64_t n);
// Whether it takes the problem, with its default knobs: why not is in
// saccade_last_error.
SACCADE_C_API saccade_status
saccade_variant_takes(int64_t variant, const saccade_problem* problem);

// Adds the variants of a plug-in. See saccade/plugin.h.
SACCADE_C_API saccade_status saccade_plugin_load(const char* path);

// Where loops run. Null stands for the calling thread alone.
typedef struct saccade_exec saccade_exec;
// An arena of oneTBB, or threads without it. threads: 0 is the machine's.
SACCADE_C_API saccade_status saccade_exec_tbb(int32_t threads,
                                              saccade_exec** exec);
SACCADE_C_API saccade_status saccade_exec_threads(int32_t threads,
                                                  saccade_exec** exec);
// The caller's own loop: `run` must call body(context, task, slot) once for
// each task in 0 .. tasks - 1, no two at the same time with one slot, slots in
// 0 .. slots - 1, and return when all are done.
typedef void (*saccade_loop_body)(void* context, int64_t task, int32_t slot);
typedef void (*saccade_loop)(void* user, int64_t tasks, saccade_loop_body body,
                             void* context);
SACCADE_C_API saccade_status saccade_exec_custom(int32_t slots,
                                                 saccade_loop run, void* user,
                                                 saccade_exec** exec);
SACCADE_C_API int32_t saccade_exec_slots(const saccade_exec* exec);
SACCADE_C_API void saccade_exec_free(saccade_exec* exec);  // null is fine

// A variant made for one problem: from a spec string, e.g.
// "softmax.window:size=256,sinks=4+rope".
typedef struct saccade_plan saccade_plan;
SACCADE_C_API saccade_status saccade_plan_create(const char* spec,
                                                 const saccade_problem* problem,
                                                 saccade_plan** plan);
SACCADE_C_API void saccade_plan_free(saccade_plan* plan);  // null is fine

// Bytes for passes on an exec of that many slots.
SACCADE_C_API saccade_status saccade_plan_memory(const saccade_plan* plan,
                                                 int32_t slots,
                                                 saccade_footprint* bytes);

// Computes out. saved: empty, or footprint.saved bytes for backward.
SACCADE_C_API saccade_status saccade_forward(const saccade_plan* plan,
                                             const saccade_inputs* in,
                                             const saccade_outputs* out,
                                             saccade_bytes saved,
                                             saccade_bytes scratch,
                                             saccade_exec* exec);

// Sequences of different lengths in one pass. The queries of sequence s are
// rows q_starts[s] .. q_starts[s + 1] - 1 of q [1, Hq, all, qk_dim] and of out;
// its keys likewise, or, where kv_starts is null, in pages: key p is row
// pages[s][p / page] * page + p % page of k and v, and there are kv_lens[s].
typedef struct saccade_sequences {
  size_t struct_size;        // sizeof(saccade_sequences)
  int64_t count;             // of sequences, the plan's batch at most
  const int32_t* q_starts;   // [count + 1]
  const int32_t* kv_starts;  // [count + 1], or null
  const int32_t* kv_lens;    // [count]
  const int32_t* pages;      // [count][pages_each]
  int64_t pages_each;
  int64_t page;  // rows
} saccade_sequences;

// Computes out of all of them, of up to q_len queries and kv_len keys each; lse
// is [Hq, all]. See Plan::ForwardSequences in saccade/plan.h.
SACCADE_C_API saccade_status saccade_forward_sequences(
    const saccade_plan* plan, const saccade_inputs* in,
    const saccade_outputs* out, const saccade_sequences* sequences,
    saccade_bytes scratch, saccade_exec* exec);

// All gradients, from what forward computed and saved.
SACCADE_C_API saccade_status saccade_backward(
    const saccade_plan* plan, const saccade_inputs* in,
    const saccade_tensor* out, saccade_bytes saved, const saccade_tensor* dout,
    const saccade_gradients* grad, saccade_bytes scratch, saccade_exec* exec);

// Makes `state` that of an empty sequence.
SACCADE_C_API saccade_status saccade_reset(const saccade_plan* plan,
                                           saccade_bytes state);

// Appends n tokens, n the len of in->q, k and v, and computes their rows.
SACCADE_C_API saccade_status saccade_extend(const saccade_plan* plan,
                                            const saccade_inputs* in,
                                            const saccade_outputs* out,
                                            saccade_bytes state,
                                            saccade_bytes scratch,
                                            saccade_exec* exec);

#ifdef __cplusplus
}
#endif

#endif  // SACCADE_C_H_
