"""What a call from Python costs beyond its arithmetic.

    python3 bench/overhead.py [VARIANT...]   (SACCADE_LIBRARY: the C library,
                                              unless the package is installed)

A forward pass over 16 tokens of one head 64 wide, f32, causal, on one thread;
its arithmetic is what one more such sequence adds to a batch. Tensors of
PyTorch are tried where it is installed. Times are the thread's own processor
time, so that a busy machine disturbs them little: medians of 41 rounds, in each
of which every face has its turn. `saccade_kernels --overhead` says the same of
C++ and C.
"""

import itertools
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

try:
    import torch
except ImportError:
    torch = None

ROUNDS = 41
ROUND = 2e6  # nanoseconds of each call in a round
MORE = 32    # sequences that tell what one of them adds


def spent(call, times):
    start = time.thread_time_ns()
    for _ in range(times):
        call()
    return time.thread_time_ns() - start


def medians(calls):
    """Nanoseconds of each call."""
    times = []
    for call in calls:
        call()  # what is made once is made
        n = 1
        while spent(call, n) < ROUND:
            n *= 2
        times.append(n)
    rounds = [[spent(call, n) / n for call, n in zip(calls, times)]
              for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds)]


def arrays(batch, widths):
    return [np.full((batch, 1, 16, width), .1, np.float32) for width in widths]


def inputs_of(plan):
    """Arrays that the plan takes: inputs beside q, k and v are 64 or 1 wide."""
    for widths in itertools.product((64, 1), repeat=len(plan.extras)):
        x = arrays(1, (64, 64, 64, *widths))
        try:
            plan.forward(*x)
            return x
        except ValueError as why:
            refused = why
    raise refused


def plans(name, mask):
    return [saccade.Plan(name, batch=batch, q_len=16, kv_len=16, qk_dim=64,
                         mask=mask, threads=1) for batch in (1, 1 + MORE)]


def faces(name):
    """The calls to time: of more sequences, then one by each face."""
    causal = True
    try:
        plan, many = plans(name, "causal")
    except saccade.SaccadeError:  # it only goes both ways
        causal = False
        plan, many = plans(name, "none")
    x = inputs_of(plan)
    more = arrays(1 + MORE, [a.shape[-1] for a in x])
    out, more_out = np.empty_like(x[0]), np.empty_like(more[0])
    options = dict(variant=name, causal=causal, threads=1)
    calls = [lambda: many.forward(*more, out=more_out),
             lambda: plan.forward(*x, out=out),
             lambda: plan.forward(*x),
             lambda: saccade.attention(*x, **options)]
    if torch:
        t = [torch.from_numpy(a) for a in x]
        calls.append(lambda: saccade.attention(*t, **options))
    return calls


def main():
    columns = ["Plan, out=", "Plan", "attention()"] + ["torch"] * bool(torch)
    print("nanoseconds a call, and how many of them are not arithmetic\n\n"
          f"{'variant':20} {'arithmetic':>10}" +
          "".join(f" {column:>14}" for column in columns))
    beyond = []
    for name in sys.argv[1:] or saccade.variants():
        many, *each = medians(faces(name))
        arithmetic = (many - each[0]) / MORE
        beyond.append([t - arithmetic for t in each])
        print(f"{name:20} {arithmetic:10.0f}" + "".join(
            f" {t:7.0f} {b:6.0f}" for t, b in zip(each, beyond[-1])),
            flush=True)
    print(f"{'median':31}" + "".join(
        f" {statistics.median(column):14.0f}" for column in zip(*beyond)))


if __name__ == "__main__":
    main()
