// One step of a C program: attention chosen by name, with memory of its own.
//
//   attention [SPEC]     e.g. attention linear.elu
//
// Decodes eight tokens one by one and checks that the last row is that of a
// forward pass over all of them.
#include <math.h>
#include <saccade/c.h>
#include <stdio.h>
#include <stdlib.h>

enum { kHeads = 2, kTokens = 8, kWidth = 16 };
enum { kRow = kHeads * kWidth, kAll = kTokens * kRow };

static int Fail(void) {
  fprintf(stderr, "%s\n", saccade_last_error());
  return 1;
}

static saccade_bytes Memory(size_t size) {
  saccade_bytes bytes = {size ? aligned_alloc(64, (size + 63) / 64 * 64) : NULL,
                         size};
  return bytes;
}

// Tokens first .. first + n - 1 of [1, heads, tokens, width].
static saccade_tensor Rows(float* data, int first, int n) {
  saccade_tensor t = saccade_contiguous(data + first * kWidth, SACCADE_F32, 1,
                                        kHeads, n, kWidth);
  t.batch_stride = kAll;
  t.head_stride = kTokens * kWidth;
  return t;
}

int main(int argc, char** argv) {
  static float q[kAll], k[kAll], v[kAll], whole[kAll], steps[kAll];
  for (int i = 0; i < kAll; ++i) {
    q[i] = sinf(0.3f * (float)i);
    k[i] = sinf(0.7f * (float)i);
    v[i] = sinf(1.1f * (float)i);
  }
  saccade_problem problem = {.struct_size = sizeof problem,
                             .batch = 1,
                             .q_heads = kHeads,
                             .kv_heads = kHeads,
                             .q_len = kTokens,
                             .kv_len = kTokens,
                             .qk_dim = kWidth,
                             .v_dim = kWidth,
                             .mask = SACCADE_MASK_CAUSAL};
  saccade_plan* plan;
  if (saccade_plan_create(argc > 1 ? argv[1] : "softmax.flash+rope", &problem,
                          &plan))
    return Fail();
  saccade_exec* exec;
  if (saccade_exec_threads(2, &exec)) return Fail();

  saccade_footprint bytes = {.struct_size = sizeof bytes};
  if (saccade_plan_memory(plan, saccade_exec_slots(exec), &bytes)) return Fail();
  const saccade_bytes none = {NULL, 0};
  const saccade_bytes scratch =
      Memory(bytes.forward_scratch > bytes.extend_scratch
                 ? bytes.forward_scratch
                 : bytes.extend_scratch);
  const saccade_bytes state = Memory(bytes.state);

  saccade_inputs in = {.struct_size = sizeof in,
                       .q = Rows(q, 0, kTokens),
                       .k = Rows(k, 0, kTokens),
                       .v = Rows(v, 0, kTokens)};
  saccade_outputs out = {.struct_size = sizeof out,
                         .out = Rows(whole, 0, kTokens)};
  if (saccade_forward(plan, &in, &out, none, scratch, exec)) return Fail();

  if (saccade_reset(plan, state)) return Fail();
  for (int t = 0; t < kTokens; ++t) {
    in.q = Rows(q, t, 1);
    in.k = Rows(k, t, 1);
    in.v = Rows(v, t, 1);
    out.out = Rows(steps, t, 1);
    if (saccade_extend(plan, &in, &out, state, scratch, exec)) return Fail();
  }
  float worst = 0;
  for (int i = 0; i < kAll; ++i)
    worst = fmaxf(worst, fabsf(whole[i] - steps[i]));
  printf("saccade %s: out[last] = %g, decoding differs by %g at most\n",
         saccade_version(), (double)whole[kAll - 1], (double)worst);

  saccade_exec_free(exec);
  saccade_plan_free(plan);
  free(scratch.data);
  free(state.data);
  return worst < 1e-5f ? 0 : 1;
}
