"""Reads a GGUF file (version 3, little-endian) from the format's description alone: metadata, and F32, F16 or Q8_0 tensors.

Nothing here is taken from greta's own reader, which it helps to judge.
"""

import struct

import numpy as np

SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY, BOOL = 8, 9, 7


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def scalar(self, kind):
        dtype = np.dtype(SCALARS[kind])
        value = np.frombuffer(self.data, dtype, 1, self.at)[0].item()
        self.at += dtype.itemsize
        return bool(value) if kind == BOOL else value

    def string(self):
        size = self.scalar(10)
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8", "surrogateescape")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.scalar(kind)
        inner, count = self.scalar(4), self.scalar(10)
        return [self.value(inner) for _ in range(count)]


def dequantize(kind, raw, count):
    """`count` elements as float64. Q8_0: blocks of a binary16 scale and 32 signed bytes."""
    if kind == 0:
        return np.frombuffer(raw, "<f4", count).astype(np.float64)
    if kind == 1:
        return np.frombuffer(raw, "<f2", count).astype(np.float64)
    if kind == 8:
        blocks = np.frombuffer(raw, np.dtype([("d", "<f2"), ("q", "i1", 32)]), count // 32)
        return (blocks["d"].astype(np.float64)[:, None] * blocks["q"].astype(np.float64)).reshape(-1)
    raise SystemExit(f"tensor type {kind} is not read here")


def read(path):
    """(metadata, tensors): tensors by name, float64, the file's contiguous dimension last."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] != b"GGUF" or struct.unpack_from("<I", data, 4)[0] != 3:
        raise SystemExit(f"{path}: not a GGUF file of version 3")
    r = Reader(data)
    r.at = 8
    n_tensors, n_keys = r.scalar(10), r.scalar(10)
    metadata = {}
    for _ in range(n_keys):
        key = r.string()
        metadata[key] = r.value(r.scalar(4))
    infos = []
    for _ in range(n_tensors):
        name = r.string()
        shape = [r.scalar(10) for _ in range(r.scalar(4))]
        infos.append((name, shape, r.scalar(4), r.scalar(10)))
    alignment = metadata.get("general.alignment", 32)
    start = (r.at + alignment - 1) // alignment * alignment
    tensors = {}
    for name, shape, kind, offset in infos:
        count = int(np.prod(shape))
        tensors[name] = dequantize(kind, memoryview(data)[start + offset:], count).reshape(shape[::-1])
    return metadata, tensors
