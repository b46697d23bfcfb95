"""The C library: its structures and functions, as saccade/c.h says them."""

import ctypes
import os
import pathlib
from ctypes import (POINTER, Structure, byref, c_char_p, c_float, c_int32,
                    c_int64, c_size_t, c_void_p, sizeof)

STATUS_NAMES = {1: "invalid", 2: "unsupported", 3: "not found",
                4: "exhausted", 5: "input/output"}


class SaccadeError(ValueError):
    """What the library refused, in its own words."""

    def __init__(self, status, message):
        super().__init__(message)
        self.kind = STATUS_NAMES.get(status, "unknown")


class Tensor(Structure):
    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("batch", c_int64),
                ("heads", c_int64), ("len", c_int64), ("dim", c_int64),
                ("batch_stride", c_int64), ("head_stride", c_int64),
                ("row_stride", c_int64)]


class Problem(Structure):
    _fields_ = [("struct_size", c_size_t), ("batch", c_int64),
                ("q_heads", c_int64), ("kv_heads", c_int64),
                ("q_len", c_int64), ("kv_len", c_int64), ("qk_dim", c_int64),
                ("v_dim", c_int64), ("dtype", c_int32), ("mask", c_int32),
                ("window", c_int64), ("scale", c_float), ("unused", c_int32),
                ("attn_mask", c_int32), ("softcap", c_float)]


class MaskView(Structure):
    _fields_ = [("data", c_void_p), ("element", c_int32), ("batch", c_int64),
                ("heads", c_int64), ("q_len", c_int64), ("kv_len", c_int64),
                ("batch_stride", c_int64), ("head_stride", c_int64),
                ("row_stride", c_int64), ("key_stride", c_int64)]


class Inputs(Structure):
    _fields_ = [("struct_size", c_size_t), ("q", Tensor), ("k", Tensor),
                ("v", Tensor), ("extra", Tensor * 4), ("bias", Tensor),
                ("attn_mask", MaskView)]


class Outputs(Structure):
    _fields_ = [("struct_size", c_size_t), ("out", Tensor), ("lse", c_void_p)]


class Gradients(Structure):
    _fields_ = [("struct_size", c_size_t), ("dq", Tensor), ("dk", Tensor),
                ("dv", Tensor), ("dextra", Tensor * 4), ("dbias", Tensor)]


class Footprint(Structure):
    _fields_ = [("struct_size", c_size_t), ("forward_scratch", c_size_t),
                ("backward_scratch", c_size_t), ("extend_scratch", c_size_t),
                ("saved", c_size_t), ("state", c_size_t),
                ("sequences_scratch", c_size_t)]


class Bytes(Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


def sized(kind):
    """A structure that knows its size, all else zero."""
    made = kind()
    made.struct_size = sizeof(kind)
    return made


def _open():
    name = "libsaccade_c.so"
    chosen = os.environ.get("SACCADE_LIBRARY")
    beside = pathlib.Path(__file__).parent / name
    try:
        return ctypes.CDLL(chosen or str(beside if beside.exists() else name))
    except OSError as e:
        raise ImportError(f"{e}: install the package (pip install "
                          "./common/python), or set SACCADE_LIBRARY to the "
                          f"path of {name}") from None


lib = _open()

_SIGNATURES = {
    "saccade_version": (c_char_p, []),
    "saccade_last_error": (c_char_p, []),
    "saccade_variant_count": (c_int64, []),
    "saccade_variant_name": (c_char_p, [c_int64]),
    "saccade_variant_title": (c_char_p, [c_int64]),
    "saccade_variant_input": (c_char_p, [c_int64, c_int64]),
    "saccade_variant_takes": (c_int32, [c_int64, POINTER(Problem)]),
    "saccade_plugin_load": (c_int32, [c_char_p]),
    "saccade_exec_tbb": (c_int32, [c_int32, POINTER(c_void_p)]),
    "saccade_exec_slots": (c_int32, [c_void_p]),
    "saccade_plan_create": (c_int32, [c_char_p, POINTER(Problem),
                                      POINTER(c_void_p)]),
    "saccade_plan_free": (None, [c_void_p]),
    "saccade_plan_memory": (c_int32, [c_void_p, c_int32, POINTER(Footprint)]),
    "saccade_forward": (c_int32, [c_void_p, c_void_p, c_void_p, Bytes, Bytes,
                                  c_void_p]),
    "saccade_backward": (c_int32, [c_void_p, c_void_p, c_void_p, Bytes,
                                   c_void_p, c_void_p, Bytes, c_void_p]),
    "saccade_reset": (c_int32, [c_void_p, Bytes]),
    "saccade_extend": (c_int32, [c_void_p, c_void_p, c_void_p, Bytes, Bytes,
                                 c_void_p]),
}
for _name, (_result, _arguments) in _SIGNATURES.items():
    _function = getattr(lib, _name)
    _function.restype = _result
    _function.argtypes = _arguments


def check(status):
    """Raises what the library refused."""
    if status:
        raise SaccadeError(status, lib.saccade_last_error().decode())


def version():
    return lib.saccade_version().decode()


def variants():
    """Names of the variants, in the order of reports, and what each is."""
    return {lib.saccade_variant_name(i).decode():
            lib.saccade_variant_title(i).decode()
            for i in range(lib.saccade_variant_count())}


def inputs_of(name):
    """What a variant wants beyond q, k and v."""
    names = list(variants())
    if name not in names:
        return []
    found, n = [], 0
    while True:
        text = lib.saccade_variant_input(names.index(name), n)
        if text is None:
            return found
        found.append(text.decode())
        n += 1


def load_plugin(path):
    """Adds the variants of a plug-in (saccade/plugin.h)."""
    check(lib.saccade_plugin_load(os.fsencode(path)))


_execs = {}


def exec_of(threads):
    """Where loops run; made once for each number of threads, 0: all cores."""
    if threads == 1:
        return None
    if threads not in _execs:
        made = c_void_p()
        check(lib.saccade_exec_tbb(threads, byref(made)))
        _execs[threads] = made
    return _execs[threads]
