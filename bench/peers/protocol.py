"""What every peer's program has in common: lines of JSON, and shared memory.

A program calls serve(peer), where peer has

  version      a text
  score_bytes  {pass: bytes held for each score}
  computes     the variant whose function it is; missing: softmax attention
  setup(problem) -> a sentence on what runs, with which threads; raises
                    Unsupported with the reason
  run()        one pass
  result() -> {name: array [B, H, T, D]} of the tensors that the pass writes
  drop()       lets go of the problem

README.md beside this file has the lines that are said.
"""
import ctypes
import json
import mmap
import os
import signal
import sys
import time

import numpy as np


class Unsupported(Exception):
    pass


class Problem:
    """A problem's settings as attributes, its inputs as arrays.

    bf16 is kept in uint16, for NumPy has no such type.
    """

    def __init__(self, question):
        self.backward = question["pass"] == "backward"
        self.bf16 = question["dtype"] == "bf16"
        self.causal = question["causal"]
        self.scale = question["scale"]
        self.threads = question["threads"]
        self.knobs = question["knobs"]
        with open(question["path"], "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        kind = np.uint16 if self.bf16 else np.float32
        self.arrays = {}
        for name, tensor in question["tensors"].items():
            count = int(np.prod(tensor["shape"]))
            self.arrays[name] = np.frombuffer(
                memory, kind, count, tensor["offset"]).reshape(tensor["shape"])
        self.batch, self.q_heads, self.q_len, self.qk_dim = (
            self.arrays["q"].shape)
        _, self.kv_heads, self.kv_len, self.v_dim = self.arrays["v"].shape


def missing(error):
    """Says that something is not installed, and ends."""
    print(json.dumps({"missing": str(error)}), flush=True)
    sys.exit(0)


def _die_with_parent():
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        pass  # the end of the input will do


def _sample(peer, runs):
    start = time.perf_counter_ns()
    for _ in range(runs):
        peer.run()
    spent = time.perf_counter_ns() - start
    return {"ns": spent / runs}


def _answer(peer, state, question):
    op = question["op"]
    if op == "setup":
        state["problem"] = Problem(question)
        return {"how": peer.setup(state["problem"])}
    if op == "sample":
        return _sample(peer, question["runs"])
    if op == "result":
        for name, array in peer.result().items():
            np.copyto(state["problem"].arrays[name], array)
        return {}
    if op == "drop":
        peer.drop()
        state.clear()
        return {}
    return {"error": "no such op: " + op}


def serve(peer):
    _die_with_parent()
    # Answers go where standard output was; what libraries print does not.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say({"version": peer.version, "score_bytes": peer.score_bytes,
         "computes": getattr(peer, "computes", "")})
    state = {}
    for line in sys.stdin:
        try:
            say(_answer(peer, state, json.loads(line)))
        except Unsupported as reason:
            say({"unsupported": str(reason)})
        except Exception as error:  # of the peer: the cell fails, not the run
            text = " ".join(str(error).split())
            say({"error": f"{type(error).__name__}: {text[:300]}"})
