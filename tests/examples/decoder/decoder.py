"""A transformer that goes on with a text, on a model of `saccade train`:

    python3 decoder.py MODEL.safetensors PROMPT [COUNT [SPEC]]

SPEC reads the model through another attention than it was trained with. The
C++ twin, with the equations, is decoder.cc.
"""

import json
import struct
import sys
import time

import numpy as np

import saccade


def read_safetensors(path):
    """The tensors by name, and the metadata."""
    with open(path, "rb") as file:
        data = file.read()
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    about = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not F32")
        values = np.frombuffer(data[8 + length + begin:8 + length + end], "<f4")
        tensors[name] = values.reshape(entry["shape"])
    return tensors, about


def norm(x, gain):
    return gain * x / np.sqrt(np.mean(x * x) + 1e-6)


class Decoder:
    def __init__(self, tensors, about, spec, capacity):
        self.t, self.heads = tensors, int(about["heads"])
        head = int(about["width"]) // self.heads
        # Each layer has a plan, with the state of the sequence.
        self.plans = [saccade.Plan(spec, q_len=1, kv_len=capacity, qk_dim=head,
                                   q_heads=self.heads, mask="causal", threads=1)
                      for _ in range(int(about["layers"]))]

    def extend(self, token):
        """Appends a token; the logits of what follows it."""
        t = self.t
        x = t["embedding"][token]
        for n, plan in enumerate(self.plans):
            a, m = f"attention{n}.", f"mlp{n}."
            h = norm(x, t[a + "gain"])
            q, k, v = ((t[a + name] @ h).reshape(1, self.heads, 1, -1)
                       for name in "qkv")
            x = x + t[a + "out"] @ plan.extend(q, k, v).reshape(-1)
            mid = t[m + "in"] @ norm(x, t[m + "gain"])
            x = x + t[m + "out"] @ (mid / (1 + np.exp(-mid)))
        return t["embedding"] @ norm(x, t["gain"])


def main(path, prompt, count="200", spec=None):
    tensors, about = read_safetensors(path)
    spec, count = spec or about["spec"], int(count)
    prompt = prompt.encode()
    decoder = Decoder(tensors, about, spec, len(prompt) + count + 1)
    begin = 256  # the symbol before all bytes
    for token in (begin, *prompt):
        logits = decoder.extend(token)
    sys.stdout.buffer.write(prompt)
    start = time.perf_counter()
    for _ in range(count):
        token = int(np.argmax(logits[:begin]))
        sys.stdout.buffer.write(bytes([token]))
        sys.stdout.buffer.flush()
        logits = decoder.extend(token)
    rate = count / (time.perf_counter() - start)
    print()
    state = sum(plan.bytes.state for plan in decoder.plans)
    print(f"{spec}: {rate:.0f} tokens a second, {state} bytes of state",
          file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
