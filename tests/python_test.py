"""The Python package against NumPy in float64, and against PyTorch where it is.

    python3 tests/python_test.py    (SACCADE_LIBRARY: the C library)
"""

import concurrent.futures
import itertools
import pathlib
import random
import sys
import unittest
import weakref

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common/python"))

import numpy as np  # noqa: E402

import saccade  # noqa: E402

try:
    import torch
    import saccade.torch
except ImportError:
    torch = None
try:
    import transformers
    import saccade.huggingface
except ImportError:
    transformers = None


def softmax_attention(q, k, v, causal, mask=None, softcap=0):
    """In float64, straight from the equation; bottom right."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x.astype(np.float64), group, axis=1) for x in (k, v))
    s = q.astype(np.float64) @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
    if softcap:
        s = softcap * np.tanh(s / softcap)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        i, j = np.ogrid[:q.shape[2], :k.shape[2]]
        s = np.where(j <= i + k.shape[2] - q.shape[2], s, -np.inf)
    seen = np.isfinite(s).any(-1, keepdims=True)
    w = np.exp(s - np.where(seen, s.max(-1, keepdims=True), 0))
    return w / np.where(seen, w.sum(-1, keepdims=True), 1) @ v


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def mask_shape(b, h, tq, tk):
    """A shape that spreads to [b, h, tq, tk], of 2 to 4 dimensions."""
    shape = [1 if random.random() < .3 else n for n in (b, h, tq)] + [tk]
    return shape[random.randint(0, 2):]


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

    def test_masks_and_softcaps_agree_with_float64(self):
        random.seed(7)
        rng = np.random.default_rng(7)
        for n in range(200):
            kv_heads = random.randint(1, 3)
            q_heads = kv_heads * random.randint(1, 3)
            b, tq, tk = (random.randint(1, n) for n in (3, 40, 40))
            q, k, v = (draw(rng, b, h, t, 12)
                       for h, t in ((q_heads, tq), (kv_heads, tk),
                                    (kv_heads, tk)))
            mask = draw(rng, *mask_shape(b, q_heads, tq, tk))
            if n % 2:
                mask = mask < .5
            else:
                mask[mask < -.5] = -np.inf
            causal, softcap = random.random() < .5, random.choice((0, 2))
            out = saccade.attention(q, k, v, causal=causal, attn_mask=mask,
                                    softcap=softcap, threads=1)
            want = softmax_attention(q, k, v, causal, mask, softcap)
            np.testing.assert_allclose(out, want, rtol=2e-5, atol=2e-5)

    def test_a_mask_is_read_where_it_lies(self):
        rng = np.random.default_rng(8)
        q, k, v = (draw(rng, 2, 2, 9, 4) for _ in range(3))
        mask = rng.random((9, 9, 2)) < .5
        turned = mask.transpose(2, 1, 0)[:, ::-1]
        out = saccade.attention(q, k, v, attn_mask=turned)
        np.testing.assert_array_equal(
            out, saccade.attention(q, k, v, attn_mask=turned.copy()))
        # A plan that had one forgets it.
        plan = saccade.Plan("softmax.flash", q_len=9, kv_len=9, qk_dim=4,
                            batch=2, q_heads=2, attn_mask="boolean")
        plan.forward(q, k, v, attn_mask=turned)
        with self.assertRaisesRegex(saccade.SaccadeError, "attn_mask"):
            plan.forward(q, k, v)

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
            shape = dict(q_len=16, kv_len=16, qk_dim=8)
            causal = True
            try:
                wanted = saccade.Plan(name, mask="causal", **shape).extras
            except saccade.SaccadeError:  # there are some that go both ways only
                causal = False
                wanted = saccade.Plan(name, **shape).extras
            # An input is as wide as q, k and v, or 1: it is refused otherwise.
            for widths in itertools.product((8, 1), repeat=len(wanted)):
                extras = [draw(rng, 1, 1, 16, width) for width in widths]
                try:
                    out = saccade.attention(q, k, v, *extras, variant=name,
                                            causal=causal)
                    break
                except ValueError:
                    out = None
            self.assertIsNotNone(out, name)
            self.assertTrue(np.isfinite(out).all(), name)

    def test_plans_are_kept_by_what_arrays_are_like(self):
        rng = np.random.default_rng(9)
        x = [draw(rng, 1, 3, 8, 4) for _ in range(3)]
        turned = [np.ascontiguousarray(a.transpose(0, 2, 1, 3))
                  .transpose(0, 2, 1, 3) for a in x]
        backwards = [a[:, :, ::-1] for a in x]
        want = saccade.attention(*x).copy()
        for _ in range(3):  # of the same shapes, by turns
            for arrays, expected in [(x, want), (turned, want),
                                     (backwards, want[:, :, ::-1])]:
                np.testing.assert_allclose(saccade.attention(*arrays), expected,
                                           rtol=1e-5)
        moved = x[0].copy()
        saccade.attention(moved, x[1], x[2])
        moved.shape = 1, 3, 4, 8
        with self.assertRaisesRegex(saccade.SaccadeError, "shape"):
            saccade.attention(moved, x[1], x[2])
        out = np.empty((1, 8, 3, 4), np.float32).transpose(0, 2, 1, 3)
        for _ in range(2):
            out[:] = 0
            self.assertIs(saccade.attention(*x, out=out), out)
            np.testing.assert_array_equal(out, want)

    def test_plans_go_when_they_are_many(self):
        x = np.ones((1, 1, 4, 8), np.float32)
        plans = saccade._plan._local.plans
        saccade.clear_cache()
        saccade.attention(x, x, x)
        first = weakref.ref(next(iter(plans.values())))
        self.assertIsNotNone(first())
        for n in range(1, 101):
            saccade.attention(x, x, x, scale=n)
        self.assertEqual(len(plans), saccade._plan._MOST_PLANS)
        self.assertIsNone(first())  # at once: no cycles hold its memory
        with self.assertRaises(saccade.SaccadeError):
            saccade.attention(x, x, x, scale=-1, out=x[:, :, :2])
        saccade.clear_cache()
        self.assertFalse(plans)

    def test_threads_have_plans_of_their_own(self):
        rng = np.random.default_rng(10)
        x = [draw(rng, 1, 2, 65, 16) for _ in range(4)]
        want = [saccade.attention(a, a, a, causal=True) for a in x]

        def again(a, expected):
            for _ in range(50):
                out = saccade.attention(a, a, a, causal=True)
                if not np.array_equal(out, expected):
                    return False
            return True

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.assertTrue(all(pool.map(again, x, want)))

    def test_variants_say_why_they_do_not_take_a_problem(self):
        said = saccade.explain(q_len=8, kv_len=8, qk_dim=4, mask="causal",
                               attn_mask="boolean")
        self.assertEqual(list(said), list(saccade.variants()))
        self.assertIsNone(said["softmax.flash"])
        self.assertRegex(said["linear.elu"], "no attn_mask")
        plan = saccade.Plan("softmax.flash", q_len=8, kv_len=8, qk_dim=4,
                            mask="causal", attn_mask="boolean")
        with self.assertRaisesRegex(saccade.SaccadeError, "call Forward"):
            plan.reset()
        with self.assertRaisesRegex(TypeError, "q_length"):
            saccade.Plan("softmax.flash", q_length=8, kv_len=8, qk_dim=4)

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
                (lambda: saccade.attention(x, x, x, attn_mask=x[..., :3]),
                 "attn_mask has shape"),
                (lambda: saccade.attention(x, x, x, attn_mask=[[1]]), "NumPy"),
                (lambda: saccade.attention(
                    x, x, x, attn_mask=np.zeros((4, 4), int)), "int64"),
                (lambda: saccade.attention(
                    x, x, x, variant="linear.elu",
                    attn_mask=np.ones((4, 4), bool)), "no attn_mask"),
                (lambda: saccade.attention(x, x, x, softcap=-1), "softcap"),
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
            causal = random.random() < .4
            mask = None
            if not causal and random.random() < .7:
                mask = torch.randn(mask_shape(b, q_heads, tq, tk))
                kind = random.random()
                if kind < .5:
                    mask = mask < .5
                elif kind < .8:
                    mask[mask < -.5] = -torch.inf
            q, k, v = (torch.randn(*shape, requires_grad=True) for shape in
                       ((b, q_heads, tq, d), (b, kv_heads, tk, d),
                        (b, kv_heads, tk, e)))
            results = []
            for function in (ours, theirs):
                out = function(q, k, v, attn_mask=mask, is_causal=causal,
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

    def test_masks_in_bfloat16(self):
        torch.manual_seed(6)
        ours = saccade.torch.scaled_dot_product_attention
        x = torch.randn(2, 3, 33, 16, dtype=torch.bfloat16)
        mask = torch.randn(3, 33, 33)
        for m in (mask, mask.bfloat16(), mask < 0):
            want = torch.nn.functional.scaled_dot_product_attention(
                x.float(), x.float(), x.float(),
                attn_mask=m if m.dtype == torch.bool else m.float())
            for q in (x, x.float()):
                torch.testing.assert_close(ours(q, q, q, attn_mask=m).float(),
                                           want, rtol=2e-2, atol=2e-2)

    def test_masks_of_more_and_fewer_dimensions(self):
        ours = saccade.torch.scaled_dot_product_attention
        theirs = torch.nn.functional.scaled_dot_product_attention
        for shape, mask in [((3, 5, 4), (3, 5, 5)), ((3, 5, 4), (5, 5)),
                            ((2, 2, 3, 5, 4), (2, 1, 3, 5, 5)),
                            ((2, 2, 3, 5, 4), (1, 2, 1, 5, 5))]:
            x, m = torch.randn(shape), torch.randn(mask)
            torch.testing.assert_close(ours(x, x, x, attn_mask=m),
                                       theirs(x, x, x, attn_mask=m))

    def test_what_masks_do_not_offer_is_said(self):
        x, mask = torch.randn(1, 1, 4, 4), torch.randn(4, 4)
        ours = saccade.torch.scaled_dot_product_attention
        with self.assertRaisesRegex(saccade.SaccadeError, "gradient"):
            ours(x, x, x, attn_mask=mask.clone().requires_grad_())
        with self.assertRaisesRegex(saccade.SaccadeError, "is_causal"):
            ours(x, x, x, attn_mask=mask, is_causal=True)
        with self.assertRaisesRegex(saccade.SaccadeError, "float64"):
            ours(x, x, x, attn_mask=mask.double())

    def test_tensors_as_they_come(self):
        torch.manual_seed(11)
        x = torch.randn(1, 2, 8, 4)
        want = saccade.attention(x, x, x, causal=True)
        wide = torch.randn(1, 2, 8, 8)
        wide[..., ::2] = x
        turned = x.transpose(2, 3).contiguous().transpose(2, 3)
        for same in (wide[..., ::2], turned, torch.nn.Parameter(x)):
            for _ in range(2):
                torch.testing.assert_close(
                    saccade.attention(same, same, same, causal=True), want)
        out = torch.empty_like(x)
        self.assertIs(saccade.attention(x, x, x, causal=True, out=out), out)
        torch.testing.assert_close(out, want)

    def test_what_tensors_do_not_offer_is_said(self):
        x = torch.randn(1, 1, 4, 4)
        grows = x.clone().requires_grad_()
        for wrong, says in [
                (lambda: saccade.attention(x, x.numpy(), x), "PyTorch's as q"),
                (lambda: saccade.attention(x.numpy(), x, x), "NumPy's as q"),
                (lambda: saccade.attention(x, x, x, out=x.numpy()), "library"),
                (lambda: saccade.attention(grows, x, x, out=x.clone()),
                 "gradients"),
                (lambda: saccade.attention(x.double(), x, x), "float64"),
                (lambda: saccade.attention(x[0, 0, 0, 0], x, x), "width"),
                (lambda: saccade.attention(x.to("meta"), x, x), "CPU"),
                (lambda: saccade.attention(
                    x, x, x, attn_mask=torch.ones(4, 4, device="meta")),
                 "CPU")]:
            with self.assertRaisesRegex(saccade.SaccadeError, says):
                wrong()
        out = saccade.attention(grows, x, x)
        grad, = torch.autograd.grad(out.square().sum(), grows,
                                    create_graph=True)
        with self.assertRaisesRegex(RuntimeError, "once_differentiable"):
            grad.sum().backward()

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


def tiny_models():
    """Makers of small random models, by name; weights large enough that
    attention matters."""
    t = transformers
    sizes = dict(vocab_size=97, hidden_size=64, intermediate_size=96,
                 num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, initializer_range=.3, pad_token_id=0,
                 bos_token_id=1, eos_token_id=2)
    return {
        "Llama": (t.LlamaForCausalLM, t.LlamaConfig(**sizes)),
        "GPT-2": (t.GPT2LMHeadModel, t.GPT2Config(
            vocab_size=97, n_embd=64, n_layer=2, n_head=4, n_positions=128,
            initializer_range=.3, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            bos_token_id=1, eos_token_id=2)),
        "Mistral": (t.MistralForCausalLM, t.MistralConfig(
            **sizes, sliding_window=6)),
        "Gemma 2": (t.Gemma2ForCausalLM, t.Gemma2Config(
            **sizes, head_dim=16, sliding_window=8,
            attn_logit_softcapping=3.))}


@unittest.skipIf(transformers is None, "transformers is not installed")
class HuggingFace(unittest.TestCase):
    def setUp(self):
        transformers.logging.set_verbosity_error()
        torch.manual_seed(12)
        self.ids = torch.randint(3, 97, (3, 20))
        self.padding = torch.ones_like(self.ids)
        self.padding[1, :7] = 0
        self.padding[2, :1] = 0

    def pair(self, name, theirs="eager"):
        """A model with its own attention, and the same with ours."""
        kind, config = tiny_models()[name]
        models = [kind._from_config(config, attn_implementation=a).eval()
                  for a in (theirs, saccade.huggingface.register())]
        models[1].load_state_dict(models[0].state_dict())
        return models

    def test_models_compute_the_same(self):
        for name in tiny_models():
            # SDPA knows no softcap.
            for theirs in ("eager", *["sdpa"] * (name != "Gemma 2")):
                models = self.pair(name, theirs)
                for padding in (None, self.padding):
                    with self.subTest(name, theirs=theirs,
                                      padded=padding is not None):
                        self.compare(models, padding)

    def compare(self, models, padding):
        kept = (slice(None) if padding is None else padding.bool())
        results = []
        for model in models:
            model.zero_grad()
            logits = model(self.ids, attention_mask=padding).logits[kept]
            logits.square().mean().backward()
            results.append([logits] + [p.grad for p in model.parameters()
                                       if p.grad is not None])
        self.assertGreater(results[0][0].std(), .1)
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4)

    def test_padding_is_seen(self):
        _, ours = self.pair("Llama")
        padded = ours(self.ids, attention_mask=self.padding).logits
        alone = ours(self.ids[1:2, 7:]).logits
        torch.testing.assert_close(padded[1:2, 7:], alone, rtol=1e-3,
                                   atol=1e-4)

    def test_models_write_the_same(self):
        for name in tiny_models():
            theirs, ours = self.pair(name)
            for more in ({}, {"num_beams": 2},
                         {"cache_implementation": "static"}):
                with self.subTest(name, **more):
                    written = [model.generate(
                        self.ids, attention_mask=self.padding, do_sample=False,
                        max_new_tokens=8, pad_token_id=0, **more)
                        for model in (theirs, ours)]
                    self.assertTrue(torch.equal(*written))

    def test_other_variants_by_name(self):
        _, model = self.pair("Llama")
        for variant in ("linear.elu", "softmax.window:size=4",
                        "softmax.flash+alibi"):
            name = saccade.huggingface.register(variant)
            self.assertNotIn("flash", name)
            model.set_attn_implementation(name)
            whole = model(self.ids).logits
            cache, rows = None, []
            for t in range(20):  # a token at a time, with the model's cache
                step = model(self.ids[:, t:t + 1], past_key_values=cache,
                             use_cache=True)
                cache = step.past_key_values
                rows.append(step.logits)
            torch.testing.assert_close(torch.cat(rows, 1), whole, rtol=2e-3,
                                       atol=2e-3)
            # Of a static cache the part that is not filled yet is not there.
            written = [model.generate(self.ids, do_sample=False,
                                      attention_mask=torch.ones_like(self.ids),
                                      max_new_tokens=8, pad_token_id=0, **more)
                       for more in ({}, {"cache_implementation": "static"})]
            self.assertTrue(torch.equal(*written), variant)

    def test_what_models_do_not_get_is_said(self):
        _, model = self.pair("GPT-2")
        refused = self.assertRaisesRegex
        with refused(saccade.SaccadeError, "without \"flash\""):
            saccade.huggingface.register(name="flash")
        model.set_attn_implementation(saccade.huggingface.register(
            "linear.elu"))
        with refused(saccade.SaccadeError, "no attn_mask"):
            model(self.ids, attention_mask=self.padding)
        config = transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1)
        model = transformers.GPT2LMHeadModel._from_config(
            config, attn_implementation=saccade.huggingface.register())
        with refused(saccade.SaccadeError, "dropout"):
            model.train()(self.ids)


if __name__ == "__main__":
    if torch is None:
        print("PyTorch is not installed: its tests are skipped")
    if transformers is None:
        print("transformers is not installed: its tests are skipped")
    unittest.main(verbosity=1)
