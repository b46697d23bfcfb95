"""What a call from Python costs beyond its arithmetic, on NumPy arrays.

    python3 bench/overhead.py     (SACCADE_LIBRARY: the C library, unless the
                                   package is installed)

`saccade_kernels --overhead` says the same of C++ and C: a forward pass over 16
tokens of one head 64 wide, of which the arithmetic is what one more such
sequence adds to a batch.
"""

import pathlib
import statistics
import sys
import time

try:
    import saccade
except ImportError:
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent /
                           "common/python"))
    import saccade
import numpy as np

MORE = 32  # sequences that tell what one of them adds


def nanoseconds(call):
    """The median of some rounds, each of enough calls for the clock."""
    calls, rounds = 1, []
    while len(rounds) < 41:
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        spent = time.perf_counter_ns() - start
        if spent < 2e6:
            calls *= 2
        else:
            rounds.append(spent / calls)
    return statistics.median(rounds)


def arrays(batch):
    return np.full((batch, 1, 16, 64), .1, np.float32)


def main():
    print("nanoseconds a call, and how many of them are not arithmetic\n\n"
          f"{'variant':18} {'arithmetic':>10} {'attention()':>15} "
          f"{'Plan.forward':>15}")
    for name in saccade.variants():
        x, many = arrays(1), arrays(1 + MORE)
        options = dict(q_len=16, kv_len=16, qk_dim=64, mask="causal", threads=1)
        plan = saccade.Plan(name, **options)
        wide = saccade.Plan(name, batch=1 + MORE, **options)
        tensors = 3 + len(plan.extras)
        inputs, out = [x] * tensors, np.empty_like(x)
        more, more_out = [many] * tensors, np.empty_like(many)
        one = nanoseconds(lambda: plan.forward(*inputs, out=out))
        arithmetic = (nanoseconds(lambda: wide.forward(*more, out=more_out)) -
                      one) / MORE
        easy = nanoseconds(lambda: saccade.attention(
            *inputs, variant=name, causal=True, threads=1))
        print(f"{name:18} {arithmetic:10.0f} "
              + " ".join(f"{t:8.0f} {t - arithmetic:6.0f}" for t in (easy, one)))


if __name__ == "__main__":
    main()
