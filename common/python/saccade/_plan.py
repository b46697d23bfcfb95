"""Plans: one variant made for one problem, with the memory it needs."""

import collections
import ctypes
import threading
from ctypes import byref, c_void_p

import numpy as np

from saccade._library import (Bytes, Footprint, Gradients, Inputs, MaskView,
                              Outputs, Problem, SaccadeError, Tensor, check,
                              exec_of, inputs_of, lib, sized)

MASKS = {"none": 0, "causal": 1, "causal_top_left": 2}
ATTN_MASKS = {"none": 0, "boolean": 1, "additive": 2}
F32, BF16 = 0, 1
_NONE = Bytes(None, 0)
_forward = lib.saccade_forward


def _aligned(size):
    """Memory aligned to 64 bytes, and its description."""
    if size == 0:
        return None, _NONE
    raw = np.empty(size + 64, np.uint8)
    at = raw.ctypes.data
    start = -at % 64
    return raw, Bytes(at + start, size)


class _NumPy:
    """How NumPy's arrays are read and made."""
    dtypes = {np.dtype(np.float32): F32}
    elements = {np.dtype(np.bool_): 0, np.dtype(np.float32): 1}

    @staticmethod
    def pointer(x):
        return x.__array_interface__["data"][0]

    @staticmethod
    def strides(x):
        return tuple(s // x.itemsize for s in x.strides)

    @staticmethod
    def empty(shape, like):
        return np.empty(shape, like.dtype)


class _Torch:
    """How PyTorch's tensors are read and made."""

    def __init__(self):
        import torch
        self.torch = torch
        self.dtypes = {torch.float32: F32, torch.bfloat16: BF16}
        self.elements = {torch.bool: 0, torch.float32: 1, torch.bfloat16: 2}

    @staticmethod
    def pointer(x):
        return x.data_ptr()

    @staticmethod
    def strides(x):
        return x.stride()

    def empty(self, shape, like):
        return self.torch.empty(shape, dtype=like.dtype)


_torch = None


def _library_of(x):
    """What reads an array; None where it must first be made one of NumPy's."""
    if type(x) is np.ndarray:
        return _NumPy
    if type(x).__module__.startswith("torch"):
        global _torch
        _torch = _torch or _Torch()
        return _torch
    return None


def _describe(x, library, to):
    """Writes the shape and the strides of an array into a Tensor."""
    dtype = library.dtypes.get(x.dtype)
    if dtype is None:
        raise SaccadeError(2, f"arrays of {x.dtype} are not supported: "
                              "float32, or bfloat16 of PyTorch")
    if len(x.shape) != 4:
        raise SaccadeError(1, "arrays are [batch, heads, tokens, width], not "
                              f"{list(x.shape)}")
    strides = library.strides(x)
    if x.shape[3] > 1 and strides[3] != 1:
        raise SaccadeError(1, "the last axis must be contiguous")
    to.dtype = dtype
    to.batch, to.heads, to.len, to.dim = x.shape
    to.batch_stride, to.head_stride, to.row_stride = strides[:3]
    to.data = library.pointer(x)


def _element(mask, library):
    element = library.elements.get(mask.dtype)
    if element is None:
        raise SaccadeError(2, f"masks of {mask.dtype} are not supported: "
                              "booleans, float32, or bfloat16 of PyTorch")
    return element


def _describe_mask(mask, library, to):
    """Writes a mask that spreads to [batch, q_heads, q_len, kv_len] into a
    MaskView."""
    if not 1 <= len(mask.shape) <= 4:
        raise SaccadeError(1, "masks spread to [batch, heads, queries, keys], "
                              f"not {list(mask.shape)}")
    fill = 4 - len(mask.shape)
    to.element = _element(mask, library)
    to.batch, to.heads, to.q_len, to.kv_len = (1,) * fill + tuple(mask.shape)
    (to.batch_stride, to.head_stride, to.row_stride,
     to.key_stride) = (0,) * fill + tuple(library.strides(mask))
    to.data = library.pointer(mask)


def kind_of(mask):
    """What a problem says of a mask that comes with each pass."""
    if mask is None:
        return "none"
    library = _library_of(mask)
    if library is None:
        raise SaccadeError(2, "masks are NumPy's or PyTorch's, as q is")
    return "additive" if _element(mask, library) else "boolean"


class Plan:
    """A variant made for one problem; serves one thread at a time.

    spec: "softmax.window:size=256+rope". Shapes are [batch, heads, tokens,
    width]; q_heads must be a multiple of kv_heads. For extend, kv_len is the
    longest sequence and q_len the most tokens of one step. dtype: "float32" or
    "bfloat16". attn_mask: "boolean" or "additive" where passes come with a mask
    of the caller's. softcap: scores become softcap tanh(score / softcap).
    threads: 0 is all cores.
    """

    def __init__(self, spec, *, q_len, kv_len, qk_dim, v_dim=None, batch=1,
                 q_heads=1, kv_heads=None, dtype="float32", mask="none",
                 window=0, scale=None, attn_mask="none", softcap=0, threads=0):
        p = sized(Problem)
        p.batch, p.q_heads = batch, q_heads
        p.kv_heads = q_heads if kv_heads is None else kv_heads
        p.q_len, p.kv_len, p.qk_dim = q_len, kv_len, qk_dim
        p.v_dim = qk_dim if v_dim is None else v_dim
        p.dtype = {"float32": F32, "bfloat16": BF16}[dtype]
        for name, chosen, known in [("mask", mask, MASKS),
                                    ("attn_mask", attn_mask, ATTN_MASKS)]:
            if chosen not in known:
                raise SaccadeError(1, f"there is no {name} {chosen!r}: "
                                      f"{', '.join(known)}")
        p.mask, p.window, p.scale = MASKS[mask], window, scale or 0
        p.attn_mask, p.softcap = ATTN_MASKS[attn_mask], softcap
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
        self._scratch, self._scratch_bytes = _aligned(
            max(self.bytes.forward_scratch, self.bytes.extend_scratch))
        self._back = self._state = None
        self._in, self._out = sized(Inputs), sized(Outputs)
        self._like = self._made = None
        self._refs = byref(self._in), byref(self._out)
        self._grad = sized(Gradients)

    def __del__(self):
        if getattr(self, "_handle", None):
            lib.saccade_plan_free(self._handle)

    def _read(self, q, k, v, extras, attn_mask=None):
        library = _library_of(q)
        if attn_mask is not None:
            if _library_of(attn_mask) is not library:
                raise SaccadeError(2, "a mask is NumPy's or PyTorch's, as q is")
            _describe_mask(attn_mask, library, self._in.attn_mask)
        elif self._in.attn_mask.data:
            self._in.attn_mask = MaskView()
        # Of arrays like those of the last call only the places are new.
        like = (q.shape, q.strides, k.shape, k.strides, v.shape, v.strides,
                q.dtype, k.dtype, v.dtype) if library is _NumPy else None
        i = self._in
        if like is not None and like == self._like:
            i.q.data = library.pointer(q)
            i.k.data = i.q.data if k is q else library.pointer(k)
            i.v.data = i.k.data if v is k else library.pointer(v)
        else:
            self._like = None
            for name, x in zip("qkv", (q, k, v)):
                _describe(x, library, getattr(i, name))
            self._like = like
        if len(extras) != len(self.extras):
            raise SaccadeError(1, f"{self.spec} wants {self.extras or 'no'} "
                                  f"extra inputs, not {len(extras)}")
        for n, x in enumerate(extras):
            _describe(x, library, i.extra[n])
        return library

    def _write(self, q, v, out, library):
        if out is None:
            b, h, t, _ = q.shape
            e = v.shape[3]
            out = library.empty((b, h, t, e), q)
            if library is _NumPy and self._made == (b, h, t, e):
                self._out.out.data = library.pointer(out)
                return out
            self._made = (b, h, t, e)
        else:
            self._made = None
        _describe(out, library, self._out.out)
        return out

    def forward(self, q, k, v, *extras, attn_mask=None, out=None, keep=False):
        """out [batch, q_heads, q_len, v_dim]; with keep also what backward
        wants. attn_mask: of the kind that the plan was made for."""
        library = self._read(q, k, v, extras, attn_mask)
        out = self._write(q, v, out, library)
        saved, saved_bytes = _aligned(self.bytes.saved) if keep else (None,
                                                                      _NONE)
        status = _forward(self._handle, *self._refs, saved_bytes,
                          self._scratch_bytes, self._exec)
        if status:
            check(status)
        return (out, (saved, saved_bytes)) if keep else out

    def backward(self, q, k, v, *extras, out, dout, saved, attn_mask=None):
        """Gradients of q, k, v and the extras; a mask has none."""
        library = self._read(q, k, v, extras, attn_mask)
        grads = [library.empty(tuple(x.shape), x) for x in (q, k, v, *extras)]
        for name, x in zip(("dq", "dk", "dv"), grads):
            _describe(x, library, getattr(self._grad, name))
        for n, x in enumerate(grads[3:]):
            _describe(x, library, self._grad.dextra[n])
        if self._back is None:
            self._back = _aligned(self.bytes.backward_scratch)
        o, d = Tensor(), Tensor()
        _describe(out, library, o)
        _describe(dout, library, d)
        check(lib.saccade_backward(self._handle, byref(self._in), byref(o),
                                   saved[1], byref(d), byref(self._grad),
                                   self._back[1], self._exec))
        return grads

    def reset(self):
        """Starts a new sequence."""
        if self._state is None:
            self._state = _aligned(self.bytes.state)
        check(lib.saccade_reset(self._handle, self._state[1]))

    def extend(self, q, k, v, *extras, out=None):
        """Appends tokens to the sequence and computes their rows."""
        if self._state is None:
            self.reset()
        library = self._read(q, k, v, extras)
        out = self._write(q, v, out, library)
        check(lib.saccade_extend(self._handle, byref(self._in),
                                 byref(self._out), self._state[1],
                                 self._scratch_bytes, self._exec))
        return out


# Plans of the last calls, a thread's own: buffers serve one at a time.
_local = threading.local()
_MOST_PLANS = 32


def clear_cache():
    """Lets go of the plans and the memory that calls of this thread kept."""
    _local.plans = collections.OrderedDict()


def _plan_of(key):
    plans = getattr(_local, "plans", None)
    if plans is None:
        plans = _local.plans = collections.OrderedDict()
    plan = plans.get(key)
    if plan is not None:
        plans.move_to_end(key)
        return plan
    (spec, q, k, v_dim, dtype, mask, scale, window, attn_mask, softcap,
     threads) = key
    plan = Plan(spec, batch=q[0], q_heads=q[1], kv_heads=k[1], q_len=q[2],
                kv_len=k[2], qk_dim=q[3], v_dim=v_dim, dtype=dtype, mask=mask,
                scale=scale, window=window, attn_mask=attn_mask,
                softcap=softcap, threads=threads)
    plans[key] = plan
    if len(plans) > _MOST_PLANS:
        plans.popitem(last=False)
    return plan


_DTYPE_NAMES = {np.dtype(np.float32): "float32"}


def plan_for(q, k, v, variant, causal, scale, window, attn_mask, softcap,
             threads):
    """The plan of a call: made once for each problem."""
    mask = causal if type(causal) is str else "causal" if causal else "none"
    if len(q.shape) != 4 or len(k.shape) != 4 or len(v.shape) != 4:
        raise SaccadeError(1, "q, k and v are [batch, heads, tokens, width], "
                              f"not {list(q.shape)}, {list(k.shape)}, "
                              f"{list(v.shape)}")
    dtype = _DTYPE_NAMES.get(q.dtype) or str(q.dtype)[len("torch."):]
    return _plan_of((variant, q.shape, k.shape, v.shape[3], dtype, mask, scale,
                     window, kind_of(attn_mask), softcap, threads))


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
    softcap tanh(score / softcap). Returns an array of q's kind, [batch, q_heads,
    q_len, v_dim], and gradients flow where PyTorch asks. Raises SaccadeError
    with the library's sentence.
    """
    library = _library_of(q)
    if library is None:
        q, k, v = (np.from_dlpack(x) for x in (q, k, v))
        if attn_mask is not None and type(attn_mask) is not np.ndarray:
            attn_mask = np.from_dlpack(attn_mask)
    elif library is not _NumPy:
        from saccade import torch as ours
        return ours.attention(q, k, v, *extras, variant=variant, causal=causal,
                              scale=scale, window=window, attn_mask=attn_mask,
                              softcap=softcap, threads=threads)
    if q.dtype not in _NumPy.dtypes:
        raise SaccadeError(2, f"arrays of {q.dtype} are not supported: float32")
    plan = plan_for(q, k, v, variant, causal, scale, window, attn_mask, softcap,
                    threads)
    return plan.forward(q, k, v, *extras, attn_mask=attn_mask, out=out)
