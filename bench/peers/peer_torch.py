"""PyTorch's scaled_dot_product_attention; "fused" or "math" as argument."""
import sys

import protocol

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention
except ImportError as error:
    protocol.missing(error)


class Torch:
    version = torch.__version__.split("+")[0]

    def __init__(self, which):
        self.math = which == "math"
        # Scores, weights and a mask; backward keeps them, and their gradients.
        self.score_bytes = ({"forward": 12, "backward": 24, "decode": 12}
                            if self.math else {})
        self.backend = (SDPBackend.MATH if self.math
                        else SDPBackend.FLASH_ATTENTION)

    def tensor(self, name):
        # A copy: the parent's memory is not torch's to align.
        array = torch.from_numpy(self.problem.arrays[name].copy())
        return array.view(torch.bfloat16) if self.problem.bf16 else array

    def setup(self, problem):
        self.problem = problem
        if self.math and problem.bf16:
            raise protocol.Unsupported("its math path is timed in f32 only")
        torch.set_num_threads(problem.threads)
        self.q, self.k, self.v = (self.tensor(n) for n in ("q", "k", "v"))
        # One query at the end of its keys sees all of them.
        self.causal = problem.causal and problem.q_len > 1
        self.grouped = problem.q_heads != problem.kv_heads
        self.context = sdpa_kernel([self.backend])
        self.context.__enter__()
        if problem.backward:
            self.inputs = (self.q, self.k, self.v)
            for x in self.inputs:
                x.requires_grad_()
            self.out = self.attend()
            self.dout = self.tensor("dout")
        return (f"scaled_dot_product_attention, {self.backend.name.lower()} "
                f"backend{', enable_gqa' if self.grouped else ''}, in its own "
                f"process; torch.set_num_threads({problem.threads})")

    def attend(self):
        return scaled_dot_product_attention(
            self.q, self.k, self.v, is_causal=self.causal,
            scale=self.problem.scale, enable_gqa=self.grouped)

    def run(self):
        if self.problem.backward:
            # Not into .grad: that would add, or have to be cleared.
            self.grads = torch.autograd.grad(self.out, self.inputs, self.dout,
                                             retain_graph=True)
        else:
            with torch.inference_mode():
                self.out = self.attend()

    def result(self):
        results = {"out": self.out}
        if self.problem.backward:
            results.update(zip(("dq", "dk", "dv"), self.grads))
        if self.problem.bf16:
            return {n: x.detach().contiguous().view(torch.uint16).numpy()
                    for n, x in results.items()}
        return {n: x.detach().numpy() for n, x in results.items()}

    def drop(self):
        if hasattr(self, "context"):
            self.context.__exit__(None, None, None)
        for name in ("context", "problem", "q", "k", "v", "out", "dout",
                     "inputs", "grads"):
            if hasattr(self, name):
                delattr(self, name)


protocol.serve(Torch(sys.argv[1]))
