"""PyTorch's flex_attention, compiled; "window" or "alibi" as argument."""
import os
import shutil
import sys
import sysconfig

import protocol

try:
    import torch
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
except ImportError as error:
    protocol.missing(error)

BLOCK = 128  # its own default
FAR = 1 << 30

# Lengths come and go: compiled once for all of them, and for each storage,
# width and number of threads. Past its limit it would run uncompiled.
torch._dynamo.config.recompile_limit = 1024
compiled = torch.compile(flex_attention, dynamic=True)


def why_not():
    """What torch.compile needs and is not there."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler, and there is no {compiler}"
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return "torch.compile needs the headers of Python (python3-dev)"
    return None


def slopes_of(heads):
    """ALiBi's: of a power of two, then every other one of twice that."""
    power = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    finer = [2 ** (-4 * (h + 1) / power) for h in range(0, 2 * power, 2)]
    return torch.tensor((slopes + finer)[:heads])


def blocks_of(q_len, kv_len, low, high, sees):
    """Blocks where low <= query - key <= high somewhere, and everywhere."""
    def starts(length):
        return torch.arange((length + BLOCK - 1) // BLOCK) * BLOCK

    offset = kv_len - q_len
    first_q = starts(q_len)[:, None]
    last_q = torch.clamp(first_q + BLOCK, max=q_len) - 1
    first_k = starts(kv_len)[None]
    last_k = torch.clamp(first_k + BLOCK, max=kv_len) - 1
    least = first_q + offset - last_k
    most = last_q + offset - first_k
    some = (most >= low) & (least <= high)
    # What the tensors' ends cut is masked.
    whole = (last_q - first_q == BLOCK - 1) & (last_k - first_k == BLOCK - 1)
    every = (least >= low) & (most <= high) & whole

    def listed(blocks):
        order = torch.argsort(blocks.int(), dim=1, descending=True, stable=True)
        return (blocks.sum(1, dtype=torch.int32)[None, None],
                order.int()[None, None])

    return BlockMask.from_kv_blocks(
        *listed(some & ~every), *listed(every), BLOCK_SIZE=BLOCK,
        mask_mod=sees, seq_lengths=(q_len, kv_len))


class Flex:
    version = torch.__version__.split("+")[0]
    score_bytes = {}

    def __init__(self, which):
        self.alibi = which == "alibi"
        self.computes = "softmax.alibi" if self.alibi else "softmax.window"
        self.lacks = why_not()
        self.masks = {}  # by their text
        self.captured = {}  # what they read beside their arguments

    def setup(self, p):
        if self.lacks:
            raise protocol.Unsupported(self.lacks)
        if p.backward:
            raise protocol.Unsupported(
                "flex_attention has no backward pass on CPUs")
        if p.knobs.get("sinks"):
            raise protocol.Unsupported("its mask here has no sinks")
        torch.set_num_threads(p.threads)
        self.problem = p
        self.q, self.k, self.v = (
            torch.from_numpy(p.arrays[n].copy()) for n in ("q", "k", "v"))
        if p.bf16:
            self.q, self.k, self.v = (
                x.view(torch.bfloat16) for x in (self.q, self.k, self.v))
        high = FAR if self.alibi else int(p.knobs["size"]) - 1
        low = 0 if p.causal else -high
        offset = p.kv_len - p.q_len
        sees = self.mask(low, high, offset)

        self.settings = {
            "block_mask": blocks_of(p.q_len, p.kv_len, low, high, sees),
            "scale": p.scale, "enable_gqa": p.q_heads != p.kv_heads}
        if self.alibi:
            slopes = slopes_of(p.q_heads)
            last = torch.tensor(offset, dtype=torch.int32)

            def bias(score, b, h, i, j):
                return score - slopes[h] * torch.abs(i - j)

            def last_bias(score, b, h, i, j):
                return score - slopes[h] * torch.abs(last - j)

            self.settings["score_mod"] = bias if offset == 0 else last_bias
        what = "ALiBi" if self.alibi else f"a window of {high + 1}"
        return (f"flex_attention with {what}, compiled by torch.compile for "
                f"any length, blocks of {BLOCK}, in its own process; "
                f"torch.set_num_threads({p.threads})")

    def mask(self, low, high, offset):
        """Bounds as constants, as one would write them: captured they would be
        variables of code for any length, which does not compile on CPUs
        (2.13.0). The place of a lone query must be one: a tensor can."""
        place = "i"
        if offset > 0:
            self.captured["offset"] = torch.tensor(offset, dtype=torch.int32)
            place = "i + offset"
        text = (f"lambda b, h, i, j: ({place} - j >= {low}) & "
                f"({place} - j <= {high})")
        if text not in self.masks:
            self.masks[text] = eval(text, self.captured)
        return self.masks[text]

    def run(self):  # the first compiles
        with torch.inference_mode():
            self.out = compiled(self.q, self.k, self.v, **self.settings)

    def result(self):
        out = self.out.contiguous()
        return {"out": (out.view(torch.uint16) if self.problem.bf16
                        else out).numpy()}

    def drop(self):
        for name in ("problem", "q", "k", "v", "out", "settings"):
            if hasattr(self, name):
                delattr(self, name)


protocol.serve(Flex(sys.argv[1]))
