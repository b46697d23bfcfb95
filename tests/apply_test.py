"""`saccade apply` against NumPy in float64, through files and the program.

    python3 tests/apply_test.py PROGRAM
"""

import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import numpy as np

PROGRAM = None
F32 = 2.0 ** -24  # unit roundoff


class Reference:
    """Softmax attention of [B, H, T, D] arrays, straight from the equation."""

    def __init__(self, q, k, v, causal, window=0, mask=None):
        group = q.shape[1] // k.shape[1]
        self.q, self.k, self.v = (x.astype(np.float64) for x in (
            q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)))
        self.group, self.scale = group, 1 / np.sqrt(q.shape[3])
        s = self.scale * self.q @ self.k.swapaxes(2, 3)
        i, j = np.ogrid[:q.shape[2], :k.shape[2]]
        i = i + k.shape[2] - q.shape[2]
        seen = np.ones(np.broadcast(i, j).shape, bool)
        if causal:
            seen &= j <= i
        if window:
            seen &= abs(i - j) < window
        if mask is not None and mask.dtype == bool:
            seen = seen & mask
        elif mask is not None:
            s = s + mask.astype(np.float64)
        s = np.where(seen, s, -np.inf)
        with np.errstate(divide="ignore"):
            top = s.max(-1, keepdims=True)
            top = np.where(np.isfinite(top), top, 0)
            e = np.exp(s - top)
            total = e.sum(-1, keepdims=True)
            self.weights = e / np.where(total > 0, total, 1)
            self.lse = (top + np.log(total))[..., 0]
        self.out = self.weights @ self.v

    def gradients(self, dout):
        dout = dout.astype(np.float64)
        w = self.weights
        dw = dout @ self.v.swapaxes(2, 3)
        ds = w * (dw - (w * dw).sum(-1, keepdims=True)) * self.scale

        def grouped(x):
            b, h, t, d = x.shape
            return x.reshape(b, h // self.group, self.group, t, d).sum(2)
        return (ds @ self.k, grouped(ds.swapaxes(2, 3) @ self.q),
                grouped(w.swapaxes(2, 3) @ dout))


class Apply(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.at = pathlib.Path(self.folder.name)
        random.seed(7)
        self.rng = np.random.default_rng(7)

    def tearDown(self):
        self.folder.cleanup()

    def run_program(self, spec, arrays, *options):
        """Returns the finished process."""
        line = [PROGRAM, "apply", spec, "-o", self.at / "out.npy", *options]
        for name, array in arrays.items():
            np.save(self.at / f"{name}.npy", array)
            line += [f"--{name}", self.at / f"{name}.npy"]
        return subprocess.run([str(x) for x in line], capture_output=True,
                              text=True, timeout=60)

    def apply(self, spec, arrays, *options):
        done = self.run_program(spec, arrays, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return np.load(self.at / "out.npy")

    def read(self, name):
        return np.load(self.at / f"{name}.npy")

    def test_random_problems_agree_with_float64(self):
        for n in range(60):
            kv_heads = random.randint(1, 3)
            heads = kv_heads * random.randint(1, 3)
            b, tq, tk = (random.randint(1, n) for n in (2, 70, 70))
            d, e = random.randint(1, 70), random.randint(1, 70)
            causal, rank = random.random() < .5, random.choice([2, 3, 4])
            if rank < 4:
                b = 1
            if rank < 3:
                heads = kv_heads = 1
            window = random.choice([0, random.randint(1, 40)])
            kind = random.choice([np.float32, np.float64])
            shapes = {"q": (b, heads, tq, d), "k": (b, kv_heads, tk, d),
                      "v": (b, kv_heads, tk, e), "grad": (b, heads, tq, e)}
            whole = {name: self.rng.standard_normal(s).astype(np.float32)
                     for name, s in shapes.items()}
            given = {}
            for name, x in whole.items():
                x = x.reshape(x.shape[4 - rank:]).astype(kind)
                given[name] = np.asfortranarray(x) if n % 2 else x
            spec = f"softmax.window:size={window}" if window else "softmax.flash"
            spec = random.choice([spec, "softmax.naive"]) if not window else spec
            mask = None
            if random.random() < .5:
                size = [random.choice([n, 1]) for n in (b, heads, tq, tk)]
                mask = self.rng.standard_normal(size).astype(np.float32)
                if random.random() < .5:
                    mask = mask > -.5
                given["mask"] = mask if rank == 4 else mask[0]
            out = self.apply(
                spec, given, *(["--causal"] if causal else []),
                "--lse", self.at / "lse.npy", "--weights", self.at / "w.npy")
            want = Reference(whole["q"], whole["k"], whole["v"], causal, window,
                             mask)
            where = f"{spec} {shapes} causal={causal}"
            where += f" mask={None if mask is None else mask.shape}"
            self.assertEqual(out.dtype, kind)

            def check(got, want, like):
                np.testing.assert_allclose(
                    got, want.reshape(like), rtol=2e-5, atol=2e-5,
                    err_msg=where)
            check(out, want.out, given["grad"].shape)
            check(self.read("w"), want.weights, (*out.shape[:-1], tk))
            check(self.read("lse"), want.lse, out.shape[:-1])
            dq, dk, dv = want.gradients(whole["grad"])
            for name, gradient in zip("qkv", (dq, dk, dv)):
                got = self.read(f"out.d{name}")
                self.assertEqual(got.dtype, kind)
                np.testing.assert_allclose(
                    got, gradient.reshape(given[name].shape), rtol=1e-4,
                    atol=1e-4, err_msg=where)

    def test_halves_are_computed_in_float32(self):
        x = {name: self.rng.standard_normal((2, 33, 16)).astype(np.float16)
             for name in "qkv"}
        want = Reference(*[x[n][None] for n in "qkv"], True).out[0]
        out = self.apply("softmax.flash", x, "--causal")
        self.assertEqual(out.dtype, np.float16)
        np.testing.assert_allclose(out, want, rtol=2 ** -10, atol=1e-5)
        # bf16 keeps eight bits of each number.
        rounded = self.apply("softmax.flash", x, "--causal", "--dtype", "bf16")
        np.testing.assert_allclose(rounded, want, rtol=2e-2, atol=4e-2)
        self.assertTrue((rounded != out).any())

    def test_gated(self):
        x = {name: self.rng.standard_normal((37, 8)).astype(np.float32)
             for name in ("q", "k", "v", "gate", "grad")}
        out = self.apply("gated.gau", x, "--causal")
        open_gate = self.apply("gated.gau", x | {"gate": np.ones_like(x["gate"])},
                               "--causal", "--weights", self.at / "w.npy")
        np.testing.assert_allclose(out, open_gate * x["gate"], atol=1e-5)
        np.testing.assert_allclose(self.read("w") @ x["v"], open_gate, atol=1e-5)
        np.testing.assert_allclose(self.read("out.dgate"),
                                   open_gate * x["grad"], atol=1e-5)

    def test_what_does_not_fit_names_both(self):
        fits = {name: np.zeros(s, np.float32) for name, s in
                {"q": (4, 7, 8), "k": (2, 9, 8), "v": (2, 9, 5)}.items()}
        self.apply("softmax.flash", fits)
        (self.at / "out.npy").unlink()
        for name, shape, says in [
                ("q", (3, 7, 8), ("q.npy", "(3, 7, 8)", "k.npy", "(2, 9, 8)")),
                ("q", (7, 8), ("q.npy", "(7, 8)", "k.npy", "dimensions")),
                ("k", (2, 9, 6), ("q.npy", "k.npy", "(2, 9, 6)", "width")),
                ("v", (2, 8, 5), ("k.npy", "v.npy", "(2, 8, 5)", "tokens")),
                ("v", (1, 9, 5), ("k.npy", "v.npy", "(1, 9, 5)", "heads")),
                ("q", (8,), ("q.npy", "(8,)", "[tokens, width]")),
                ("grad", (4, 7, 8), ("grad.npy", "(4, 7, 8)", "(4, 7, 5)")),
                ("mask", (7, 8), ("mask.npy", "(7, 8)", "(1, 4, 7, 9)")),
                ("gate", (4, 7, 5), ("gate", "softmax.flash"))]:
            done = self.run_program("softmax.flash",
                                    fits | {name: np.zeros(shape, np.float32)})
            self.assertEqual(done.returncode, 2, name)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            for part in says:
                self.assertIn(part, done.stderr)
            self.assertFalse((self.at / "out.npy").exists())

    def test_what_cannot_be_had_is_said(self):
        x = {name: np.zeros((9, 8), np.float32) for name in "qkv"}
        for spec, options, says in [
                ("softmax.flsh", [], "softmax.flash"),
                ("linear.elu", ["--lse", self.at / "l.npy"], "log-sum-exp"),
                ("gated.gau", [], "'gate'"),
                ("softmax.flash", ["--lse", self.at / "out.npy"], "twice"),
                ("softmax.flash", ["--q", self.at / "none.npy"], "none.npy"),
                ("softmax.flash", ["--scale", "0"], "--scale")]:
            given = {n: a for n, a in x.items() if f"--{n}" not in options}
            done = self.run_program(spec, given, *options)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn(says, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=1)
