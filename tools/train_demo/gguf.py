"""GGUF v3: a writer and a reader for what the demo model needs (F32 and Q8_0 tensors), with numpy alone."""
import struct
from pathlib import Path

import numpy as np

ALIGNMENT = 32
F32, Q8_0 = 0, 8
U32, I32, FLOAT, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
SCALAR = {U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?", U64: "<Q"}


def quantise_q8_0(x: np.ndarray) -> bytes:
    """Blocks of 32: f16 d = amax/127, then int8 round(x * (1/d)), halves away from zero, 1/d in f32 of the f32 d."""
    blocks = x.astype(np.float32).reshape(-1, 32)
    d = (np.abs(blocks).max(1) / np.float32(127)).astype(np.float32)
    inverse = np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)
    scaled = blocks * inverse[:, None]
    q = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled).astype(np.int8)
    out = np.empty(len(blocks), dtype=[("d", "<f2"), ("q", "i1", 32)])
    out["d"], out["q"] = d.astype(np.float16), q
    return out.tobytes()


def dequantise_q8_0(raw: bytes) -> np.ndarray:
    blocks = np.frombuffer(raw, dtype=[("d", "<f2"), ("q", "i1", 32)])
    return (blocks["d"].astype(np.float32)[:, None] * blocks["q"].astype(np.float32)).reshape(-1)


def pack_string(s: str) -> bytes:
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def pack_value(kind: int, value) -> bytes:
    return pack_string(value) if kind == STRING else struct.pack(SCALAR[kind], value)


def write(path: Path, metadata: list[tuple], tensors: list[tuple[str, np.ndarray]]) -> None:
    """metadata: (key, type, value) or (key, ARRAY, element type, values). 2-D tensors become Q8_0, 1-D stay F32."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, kind, *rest in metadata:
        head += pack_string(key) + struct.pack("<I", kind)
        if kind == ARRAY:
            element, values = rest
            head += struct.pack("<IQ", element, len(values)) + b"".join(pack_value(element, v) for v in values)
        else:
            head += pack_value(kind, rest[0])
    data = b""
    for name, x in tensors:
        kind = Q8_0 if x.ndim == 2 else F32
        raw = quantise_q8_0(x) if kind == Q8_0 else x.astype("<f4").tobytes()
        head += pack_string(name) + struct.pack("<I", x.ndim) + struct.pack(f"<{x.ndim}Q", *reversed(x.shape))
        head += struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % ALIGNMENT)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """(metadata, tensors): tensors dequantised to F32, shape [out, in]."""
    raw, at = path.read_bytes(), 0

    def take(fmt):
        nonlocal at
        (value,) = struct.unpack_from(fmt, raw, at)
        at += struct.calcsize(fmt)
        return value

    def take_value(kind):
        nonlocal at
        if kind == STRING:
            n = take("<Q")
            at += n
            return raw[at - n:at].decode()
        if kind == ARRAY:
            element = take("<I")
            return [take_value(element) for _ in range(take("<Q"))]
        return take(SCALAR[kind])

    assert take("<4s") == b"GGUF" and take("<I") == 3
    n_tensors, n_keys = take("<Q"), take("<Q")
    metadata = {}
    for _ in range(n_keys):
        key = take_value(STRING)
        metadata[key] = take_value(take("<I"))
    infos = []
    for _ in range(n_tensors):
        name = take_value(STRING)
        dims = [take("<Q") for _ in range(take("<I"))]
        infos.append((name, dims[::-1], take("<I"), take("<Q")))
    at += -at % metadata.get("general.alignment", 32)
    tensors = {}
    for name, shape, kind, offset in infos:
        n = int(np.prod(shape))
        size = n // 32 * 34 if kind == Q8_0 else n * 4
        part = raw[at + offset:at + offset + size]
        flat = dequantise_q8_0(part) if kind == Q8_0 else np.frombuffer(part, "<f4")
        tensors[name] = flat.reshape(shape)
    return metadata, tensors
