"""The Python package against NumPy in float64, and against PyTorch where it is.

    python3 tests/python_test.py    (SACCADE_LIBRARY: the C library)
"""

import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common/python"))

import numpy as np  # noqa: E402

import saccade  # noqa: E402

try:
    import torch
    import saccade.torch
except ImportError:
    torch = None


def softmax_attention(q, k, v, causal):
    """In float64, straight from the equation; bottom right."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x.astype(np.float64), group, axis=1) for x in (k, v))
    s = q.astype(np.float64) @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
    if causal:
        i, j = np.ogrid[:q.shape[2], :k.shape[2]]
        s = np.where(j <= i + k.shape[2] - q.shape[2], s, -np.inf)
    seen = np.isfinite(s).any(-1, keepdims=True)
    w = np.exp(s - np.where(seen, s.max(-1, keepdims=True), 0))
    return w / np.where(seen, w.sum(-1, keepdims=True), 1) @ v


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


class NumPy(unittest.TestCase):
    def test_random_problems_agree_with_float64(self):
        random.seed(1)
        rng = np.random.default_rng(1)
        for _ in range(200):
            kv_heads = random.randint(1, 3)
            q_heads = kv_heads * random.randint(1, 3)
            b, tq, tk = (random.randint(1, n) for n in (2, 40, 40))
            d, e = random.randint(1, 40), random.randint(1, 40)
            causal = random.random() < .5
            q = draw(rng, b, q_heads, tq, d)
            k, v = draw(rng, b, kv_heads, tk, d), draw(rng, b, kv_heads, tk, e)
            out = saccade.attention(q, k, v, causal=causal, threads=1)
            np.testing.assert_allclose(out, softmax_attention(q, k, v, causal),
                                       rtol=2e-5, atol=2e-5)

    def test_strides_are_read_where_they_lie(self):
        rng = np.random.default_rng(2)
        x = draw(rng, 2, 9, 3, 16)  # [batch, tokens, heads, width]
        q = x.transpose(0, 2, 1, 3)
        out = saccade.attention(q, q, q, causal=True)
        same = saccade.attention(*[np.ascontiguousarray(q)] * 3, causal=True)
        np.testing.assert_array_equal(out, same)

    def test_decoding_equals_the_whole(self):
        rng = np.random.default_rng(3)
        q, k, v = (draw(rng, 1, 2, 20, 8) for _ in range(3))
        whole = saccade.attention(q, k, v, variant="linear.elu", causal=True)
        plan = saccade.Plan("linear.elu", q_len=1, kv_len=20, qk_dim=8,
                            q_heads=2, mask="causal")
        for t in range(20):
            row = plan.extend(*[x[:, :, t:t + 1] for x in (q, k, v)])
            np.testing.assert_allclose(row[:, :, 0], whole[:, :, t], atol=1e-5)

    def test_every_variant_runs_by_name(self):
        rng = np.random.default_rng(4)
        q, k, v = (draw(rng, 1, 1, 16, 8) for _ in range(3))
        for name in saccade.variants():
            extras = [draw(rng, 1, 1, 16, 8)] if name == "gated.gau" else []
            out = saccade.attention(q, k, v, *extras, variant=name, causal=True)
            self.assertTrue(np.isfinite(out).all(), name)

    def test_what_is_wrong_is_said(self):
        x = np.zeros((1, 1, 4, 8), np.float32)
        for wrong, says in [
                (lambda: saccade.attention(x, x, x, variant="softmax.flsh"),
                 "softmax.flash"),
                (lambda: saccade.attention(x[0], x, x), "width"),
                (lambda: saccade.attention(x.astype(np.float64), x, x),
                 "float64"),
                (lambda: saccade.attention(x, x, x[:, :, :3]), "v has shape"),
                (lambda: saccade.attention(x, x, x, x), "extra"),
                (lambda: saccade.load_plugin("/no/such.so"), "No such file")]:
            with self.assertRaisesRegex(saccade.SaccadeError, says):
                wrong()


@unittest.skipIf(torch is None, "PyTorch is not installed")
class Torch(unittest.TestCase):
    def test_a_thousand_problems_agree_with_sdpa(self):
        random.seed(5)
        torch.manual_seed(5)
        ours = saccade.torch.scaled_dot_product_attention
        theirs = torch.nn.functional.scaled_dot_product_attention
        for _ in range(1000):
            kv_heads = random.randint(1, 3)
            q_heads = kv_heads * random.randint(1, 2)
            b, tq, tk = (random.randint(1, n) for n in (2, 24, 24))
            d, e = random.randint(1, 24), random.randint(1, 24)
            causal = random.random() < .5
            q, k, v = (torch.randn(*shape, requires_grad=True) for shape in
                       ((b, q_heads, tq, d), (b, kv_heads, tk, d),
                        (b, kv_heads, tk, e)))
            results = []
            for function in (ours, theirs):
                out = function(q, k, v, is_causal=causal,
                               enable_gqa=q_heads != kv_heads)
                grads = torch.autograd.grad(out.sin().sum(), (q, k, v))
                results.append((out, *grads))
            for a, b in zip(*results):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)

    def test_bfloat16(self):
        x = torch.randn(1, 2, 33, 16, dtype=torch.bfloat16)
        out = saccade.attention(x, x, x, causal=True)
        self.assertEqual(out.dtype, torch.bfloat16)
        want = torch.nn.functional.scaled_dot_product_attention(
            x.float(), x.float(), x.float(), is_causal=True)
        torch.testing.assert_close(out.float(), want, rtol=2e-2, atol=2e-2)

    def test_gradients_of_other_variants(self):
        x = [torch.randn(1, 2, 9, 4, requires_grad=True) for _ in range(3)]
        out = saccade.attention(*x, variant="linear.elu", causal=True)
        out.square().sum().backward()
        for t in x:
            self.assertTrue(torch.isfinite(t.grad).all())
        with torch.no_grad():
            before = out.square().sum()
            nudged = x[2] - 1e-3 * x[2].grad
            after = saccade.attention(x[0], x[1], nudged, variant="linear.elu",
                                      causal=True).square().sum()
        self.assertLess(after, before)


if __name__ == "__main__":
    if torch is None:
        print("PyTorch is not installed: its tests are skipped")
    unittest.main(verbosity=1)
