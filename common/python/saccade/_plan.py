"""Plans: one variant made for one problem, with the memory it needs."""

import functools
import threading
from ctypes import byref, c_void_p

import numpy as np

from saccade._arrays import (BF16, F32, NumPy, describe, describe_mask, kind_of,
                             library_of, like)
from saccade._library import (Bytes, Footprint, Gradients, Inputs, Outputs,
                              Problem, SaccadeError, Tensor, check, exec_of,
                              inputs_of, lib, sized, variants)

DTYPES = {"float32": F32, "bfloat16": BF16}
MASKS = {"none": 0, "causal": 1, "causal_top_left": 2}
ATTN_MASKS = {"none": 0, "boolean": 1, "additive": 2}
_NONE = Bytes(None, 0)
_NOTHING_YET = ()
_forward = lib.saccade_forward


def _aligned(size):
    """Memory aligned to 64 bytes, and its description."""
    if size == 0:
        return None, _NONE
    raw = np.empty(size + 64, np.uint8)
    at = raw.ctypes.data
    return raw, Bytes(at + -at % 64, size)


def problem_of(*, q_len, kv_len, qk_dim, v_dim=None, batch=1, q_heads=1,
               kv_heads=None, dtype="float32", mask="none", window=0,
               scale=None, attn_mask="none", softcap=0):
    """What attention is asked for, as the library reads it."""
    p = sized(Problem)
    p.batch, p.q_heads = batch, q_heads
    p.kv_heads = q_heads if kv_heads is None else kv_heads
    p.q_len, p.kv_len, p.qk_dim = q_len, kv_len, qk_dim
    p.v_dim = qk_dim if v_dim is None else v_dim
    for field, chosen, known in [("dtype", dtype, DTYPES),
                                 ("mask", mask, MASKS),
                                 ("attn_mask", attn_mask, ATTN_MASKS)]:
        if chosen not in known:
            raise SaccadeError(1, f"there is no {field} {chosen!r}: "
                                  f"{', '.join(known)}")
        setattr(p, field, known[chosen])
    p.window, p.scale, p.softcap = window, scale or 0, softcap
    return p


def explain(**problem):
    """Which variants take a problem: by name None, or the reason why not. The
    problem is said as to Plan."""
    p = problem_of(**problem)
    return {name: (lib.saccade_last_error().decode()
                   if lib.saccade_variant_takes(n, byref(p)) else None)
            for n, name in enumerate(variants())}


class _Call:
    """Arrays of one description, as the library reads them: described once,
    then told where each pass finds them."""

    def __init__(self, library, q, k, v, extras, attn_mask):
        self._in, self._out = sized(Inputs), sized(Outputs)
        # Views of the structures: each asked of them is a new object.
        self._q, self._k, self._v = self._in.q, self._in.k, self._in.v
        self._rest = [self._in.extra[n] for n in range(len(extras))]
        for x, to in zip((q, k, v, *extras),
                         (self._q, self._k, self._v, *self._rest)):
            describe(x, library, to)
        if attn_mask is not None:
            describe_mask(attn_mask, library, self._in.attn_mask)
            self._rest.append(self._in.attn_mask)
        self._to = self._out.out
        self._shape = (*q.shape[:3], v.shape[3])
        self._dtype = q.dtype
        self._pointer, self._empty = library.pointer, library.empty
        self.library = library
        self._out_seen = _NOTHING_YET
        self.inputs, self.outputs = byref(self._in), byref(self._out)
        self.upstream = byref(self._to)

    def place(self, q, k, v, rest, out):
        """Says where arrays lie; returns out."""
        pointer = self._pointer
        self._q.data = pointer(q)
        self._k.data = pointer(k)
        self._v.data = pointer(v)
        for to, x in zip(self._rest, rest):
            to.data = pointer(x)
        if out is None:
            out, like_out = self._empty(self._shape, self._dtype), None
        elif library_of(out) is self.library:
            like_out = self.library.like_one(out)
        else:
            raise SaccadeError(2, "out must be of q's library")
        if self._out_seen == like_out:
            self._to.data = pointer(out)
            return out
        self._out_seen = _NOTHING_YET
        describe(out, self.library, self._to, writes=True)
        self._out_seen = like_out
        return out


class Plan:
    """A variant made for one problem; serves one thread at a time.

    Plan(spec, q_len=, kv_len=, qk_dim=, v_dim=qk_dim, batch=1, q_heads=1,
         kv_heads=q_heads, dtype="float32", mask="none", window=0, scale=None,
         attn_mask="none", softcap=0, threads=0)

    spec: "softmax.window:size=256+rope". Shapes are [batch, heads, tokens,
    width]; q_heads must be a multiple of kv_heads. For extend, kv_len is the
    longest sequence and q_len the most tokens of one step. dtype: "float32" or
    "bfloat16". attn_mask: "boolean" or "additive" where passes come with a mask
    of the caller's; such plans do not extend. softcap: scores become softcap
    tanh(score / softcap). threads: 0 is all cores. Passes record no gradients:
    `backward` gives them.
    """

    def __init__(self, spec, *, threads=0, **problem):
        p = problem_of(**problem)
        self.spec = spec
        self.extras = inputs_of(spec.split(":")[0].split("+")[0])
        self._handle = c_void_p()
        check(lib.saccade_plan_create(spec.encode(), byref(p),
                                      byref(self._handle)))
        self._exec = exec_of(threads)
        self.bytes = sized(Footprint)
        check(lib.saccade_plan_memory(
            self._handle, lib.saccade_exec_slots(self._exec),
            byref(self.bytes)))
        self._memory = _aligned(max(self.bytes.forward_scratch,
                                    self.bytes.extend_scratch))
        self._scratch = self._memory[1]
        self._back = self._state = self._call = self._like = None

    def __del__(self):
        if getattr(self, "_handle", None):
            lib.saccade_plan_free(self._handle)

    def _bind(self, library, q, k, v, extras, attn_mask, seen):
        """Makes the plan ready for arrays like these; `seen` is what they are
        like."""
        self._like = None
        if len(extras) != len(self.extras):
            raise SaccadeError(1, f"{self.spec} wants {self.extras or 'no'} "
                                  f"extra inputs, not {len(extras)}")
        self._call = _Call(library, q, k, v, extras, attn_mask)
        self._like = seen

    def _call_of(self, q, k, v, extras, rest, attn_mask=None):
        """The call of arrays like these: that of the last pass, where those
        were alike."""
        library = NumPy if type(q) is np.ndarray else library_of(q)
        if library is None:
            raise SaccadeError(2, "a plan reads arrays of NumPy or PyTorch, "
                                  f"not {type(q).__name__}")
        seen = like(library, q, k, v, rest)
        if seen != self._like:
            self._bind(library, q, k, v, extras, attn_mask, seen)
        return self._call

    def forward(self, q, k, v, *extras, attn_mask=None, out=None, keep=False):
        """out [batch, q_heads, q_len, v_dim]; with keep also what backward
        wants. attn_mask: of the kind that the plan was made for."""
        rest = extras if attn_mask is None else (*extras, attn_mask)
        self._call_of(q, k, v, extras, rest, attn_mask)
        if not keep:
            return self.run(q, k, v, rest, out)
        saved = _aligned(self.bytes.saved)
        return self.run(q, k, v, rest, out, saved[1]), saved

    def run(self, q, k, v, rest, out, saved=_NONE):
        """A forward pass over arrays like those that were bound."""
        call = self._call
        out = call.place(q, k, v, rest, out)
        status = _forward(self._handle, call.inputs, call.outputs, saved,
                          self._scratch, self._exec)
        if status:
            check(status)
        return out

    def backward(self, q, k, v, *extras, out, dout, saved, attn_mask=None):
        """Gradients of q, k, v and the extras; a mask has none."""
        rest = extras if attn_mask is None else (*extras, attn_mask)
        call = self._call_of(q, k, v, extras, rest, attn_mask)
        call.place(q, k, v, rest, out)
        grads = [call.library.empty(tuple(x.shape), x.dtype)
                 for x in (q, k, v, *extras)]
        grad, upstream = sized(Gradients), Tensor()
        for n, x in enumerate(grads):
            to = grad.dextra[n - 3] if n > 2 else getattr(grad, "d" + "qkv"[n])
            describe(x, call.library, to)
        describe(dout, call.library, upstream)
        if self._back is None:
            self._back = _aligned(self.bytes.backward_scratch)
        check(lib.saccade_backward(self._handle, call.inputs, call.upstream,
                                   saved[1], byref(upstream), byref(grad),
                                   self._back[1], self._exec))
        return grads

    def held(self):
        """Bytes of the memory that the plan keeps for itself."""
        return sum(memory[0].nbytes for memory in
                   (self._memory, self._back, self._state)
                   if memory is not None and memory[0] is not None)

    def reset(self):
        """Starts a new sequence."""
        if self._state is None:
            self._state = _aligned(self.bytes.state)
        check(lib.saccade_reset(self._handle, self._state[1]))

    def extend(self, q, k, v, *extras, out=None):
        """Appends tokens to the sequence and computes their rows."""
        if self._state is None:
            self.reset()
        call = self._call_of(q, k, v, extras, extras)
        out = call.place(q, k, v, extras, out)
        check(lib.saccade_extend(self._handle, call.inputs, call.outputs,
                                 self._state[1], self._scratch, self._exec))
        return out


class _Local(threading.local):
    """A thread's own plans, for buffers serve one at a time; each by what it
    was called with and bound to arrays like those, the oldest first."""

    def __init__(self):
        self.plans = {}


_local = _Local()
_MOST_PLANS, _MOST_BYTES = 64, 256 << 20


def clear_cache():
    """Lets go of the plans and the memory that calls of this thread kept."""
    _local.plans.clear()


def plan_for(library, settings, q, k, v, extras, rest, attn_mask):
    """The plan that is kept for calls like this one."""
    plans = _local.plans
    key = settings, like(library, q, k, v, rest)
    plan = plans.get(key)
    if plan is None:
        plan = plans[key] = _make(library, settings, q, k, v, attn_mask)
        try:
            plan._bind(library, q, k, v, extras, attn_mask, key[1])
        except SaccadeError:
            del plans[key]
            raise
        held = sum(kept.held() for kept in plans.values())
        for old in list(plans)[:-1]:
            if len(plans) <= _MOST_PLANS and held <= _MOST_BYTES:
                break
            held -= plans.pop(old).held()
    return plan


def _make(library, settings, q, k, v, attn_mask):
    variant, causal, scale, window, softcap, threads = settings
    if len(q.shape) != 4 or len(k.shape) != 4 or len(v.shape) != 4:
        raise SaccadeError(1, "q, k and v are [batch, heads, tokens, width], "
                              f"not {list(q.shape)}, {list(k.shape)}, "
                              f"{list(v.shape)}")
    if q.dtype not in library.dtypes:
        raise SaccadeError(2, f"arrays of {q.dtype} are not supported: "
                              f"{library.kinds}")
    dtypes = {code: name for name, code in DTYPES.items()}
    mask = causal if type(causal) is str else "causal" if causal else "none"
    return Plan(variant, batch=q.shape[0], q_heads=q.shape[1],
                kv_heads=k.shape[1], q_len=q.shape[2], kv_len=k.shape[2],
                qk_dim=q.shape[3], v_dim=v.shape[3],
                dtype=dtypes[library.dtypes[q.dtype]], mask=mask, scale=scale,
                window=window, attn_mask=kind_of(attn_mask, library),
                softcap=softcap, threads=threads)


def attention(q, k, v, *extras, variant="softmax.flash", causal=False,
              scale=None, window=0, attn_mask=None, softcap=0, threads=0,
              out=None):
    """Attention by name.

    q [batch, q_heads, q_len, qk_dim], k [batch, kv_heads, kv_len, qk_dim],
    v [batch, kv_heads, kv_len, v_dim]; extras are what the variant wants beyond
    them. NumPy float32, or PyTorch float32 and bfloat16 on the CPU, with any
    strides whose last is 1; other arrays through DLPack. causal: True aligns at
    the bottom right; also "causal_top_left". attn_mask: booleans, true where a
    query attends, or floats that are added to scores; it spreads to [batch,
    q_heads, q_len, kv_len] and is read where it lies. softcap: scores become
    softcap tanh(score / softcap). Returns an array of q's kind, [batch,
    q_heads, q_len, v_dim], and gradients flow where PyTorch asks; out: written
    instead, without gradients. Raises SaccadeError with the library's sentence.

    Plans and their memory are kept for calls of the same shapes, strides and
    settings: the last 64 of each thread, up to 256 MiB.
    """
    library = NumPy if type(q) is np.ndarray else library_of(q)
    if library is not NumPy:
        if library is not None:
            return _of_tensors()(q, k, v, extras, (
                variant, causal, scale, window, softcap, threads), attn_mask,
                out)
        library = NumPy
        q, k, v, *extras = (_as_numpy(x) for x in (q, k, v, *extras))
        attn_mask = None if attn_mask is None else _as_numpy(attn_mask)
    rest = extras if attn_mask is None else (*extras, attn_mask)
    plan = plan_for(library, (variant, causal, scale, window, softcap, threads),
                    q, k, v, extras, rest, attn_mask)
    return plan.run(q, k, v, rest, out)


@functools.cache
def _of_tensors():
    from saccade import torch as ours
    return ours.run


def _as_numpy(x):
    """An array of another library, where it lies."""
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    try:
        return np.from_dlpack(x)
    except (AttributeError, TypeError):
        raise SaccadeError(2, "arrays are NumPy's, PyTorch's or any with "
                              f"DLPack, not {type(x).__name__}") from None
