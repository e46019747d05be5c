#!/usr/bin/env python3
"""Writes the seeds that are binary or long: fuzz/make_seeds.py [CORPUS] (default: the directory corpus/ beside this script).

The other seeds are text, kept as they were written. Formats: docs/formats.md; GGUF and safetensors as their authors publish them.
"""
import json
import struct
import sys
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack("<" + CODES[kind], value)


def entry(key, kind, value, element=None):
    out = text(key) + struct.pack("<I", kind)
    if kind != ARRAY:
        return out + scalar(kind, value)
    return out + struct.pack("<IQ", element, len(value)) + b"".join(scalar(element, one) for one in value)


def gguf(entries, tensors=(), version=3, alignment=32):
    """`tensors`: (name, extents with the contiguous one first, F32 values)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries)
    data = b""
    for name, extents, values in tensors:
        out += text(name) + struct.pack("<I", len(extents)) + b"".join(struct.pack("<Q", one) for one in extents)
        out += struct.pack("<IQ", 0, len(data))
        data += struct.pack(f"<{len(values)}f", *values)
        data += b"\0" * (-len(data) % alignment)
    return out + (b"\0" * (-len(out) % alignment) + data if tensors else b"")


def llama(tied=False):
    """One layer, 4 wide, 2 heads, 1 KV head, 5 tokens: the smallest model that loads."""
    entries = [
        entry("general.architecture", STRING, "llama"), entry("general.name", STRING, "tiny"),
        entry("llama.block_count", U32, 1), entry("llama.embedding_length", U32, 4), entry("llama.context_length", U32, 8),
        entry("llama.feed_forward_length", U32, 4), entry("llama.attention.head_count", U32, 2),
        entry("llama.attention.head_count_kv", U32, 1), entry("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        entry("tokenizer.ggml.model", STRING, "llama"),
        entry("tokenizer.ggml.tokens", ARRAY, ["<unk>", "<s>", "</s>", "\u2581", "a"], STRING),
        entry("tokenizer.ggml.scores", ARRAY, [0, 0, 0, -1, -2], F32),
        entry("tokenizer.ggml.token_type", ARRAY, [2, 3, 3, 1, 1], I32),
        entry("tokenizer.ggml.bos_token_id", U32, 1), entry("tokenizer.ggml.eos_token_id", U32, 2)]
    shapes = [("token_embd.weight", [4, 5]), ("output_norm.weight", [4])]
    for part, extents in [("attn_norm", [4]), ("attn_q", [4, 4]), ("attn_k", [4, 2]), ("attn_v", [4, 2]), ("attn_output", [4, 4]),
                          ("ffn_norm", [4]), ("ffn_gate", [4, 4]), ("ffn_up", [4, 4]), ("ffn_down", [4, 4])]:
        shapes.append((f"blk.0.{part}.weight", extents))
    if tied:
        entries += [entry("llama.rope.dimension_count", U32, 2), entry("llama.rope.freq_base", F32, 5e5),
                    entry("tokenizer.ggml.add_space_prefix", BOOL, 0)]
        shapes.append(("rope_freqs.weight", [1]))
    else:
        shapes.append(("output.weight", [4, 5]))

    def values(extents):
        count = extents[0] * (extents[1] if len(extents) > 1 else 1)
        return [0.5 + i / 64 for i in range(count)]
    return gguf(entries, [(name, extents, values(extents)) for name, extents in shapes], version=2 if tied else 3)


def gguf_seeds():
    yield "tiny", llama()
    yield "tied_v2", llama(tied=True)
    yield "every_type", gguf([
        entry("general.architecture", STRING, "other"), entry("b", BOOL, 1), entry("u8", U8, 1), entry("i8", I8, -1),
        entry("u16", U16, 1), entry("i16", I16, -1), entry("u64", U64, 1), entry("i64", I64, -1), entry("f64", F64, 0.5),
        entry("i32s", ARRAY, [1, -1], I32), entry("f32s", ARRAY, [0.5], F32), entry("strings", ARRAY, ["", "x"], STRING),
        entry("u8s", ARRAY, [97, 98], U8), entry("flags", ARRAY, [1], BOOL), entry("general.alignment", U32, 64)])
    yield "vocabulary", gguf([
        entry("general.architecture", STRING, "llama"), entry("tokenizer.ggml.model", STRING, "gpt2"),
        entry("tokenizer.ggml.pre", STRING, "llama-bpe"), entry("tokenizer.ggml.tokens", ARRAY, ["a", "b", "ab", "<s>"], STRING),
        entry("tokenizer.ggml.token_type", ARRAY, [1, 1, 1, 3], I32), entry("tokenizer.ggml.merges", ARRAY, ["a b"], STRING),
        entry("tokenizer.ggml.bos_token_id", U32, 3)])


RECORDS_VERSION = 2  # of records.bin, which holds stages by number
STAGES = {"x_in": 0, "ffn_norm": 18, "final_rms": 27}


def description(arm):
    return {"prompt_id": "p0", "exp": "E1", "arm": arm, "foreign": False, "n_prompt": 2, "n_layers": 1, "tokens": [7, 8],
            "schedule": [2] if arm == "a" else [1, 1], "kv_slots_read_from_earlier_steps": 0 if arm == "a" else 1,
            "backend": "cpu", "plan": "reference", "build": "0", "host": "h", "threads": 1,
            "routes": {"rmsnorm": "reference"}, "fault_planted": False, "fault_effects": 0}


def logits(arm):
    return {"phase": "prefill" if arm == "a" else "decode", "step": 0 if arm == "a" else 1, "pos_id": 1, "token_id": 8,
            "logits_hash": "00" * 16, "logits_mean": 0.5, "logits_min": -1, "logits_max": 2, "top1_id": 3, "top1_logit": 2,
            "top2_id": 4, "top2_logit": 1, "gap": 1, "tie": False, "vocab": 16}


def rows(arm):
    for position in range(2):
        decode = arm == "b" and position == 1
        for stage, number in STAGES.items():
            first = 1.5 if decode and stage == "ffn_norm" else 1.0
            yield position, decode, stage, number, [first, -0.5, 0.0, 2.0]


def records(arm):
    out = b"GRETACAP" + struct.pack("<IIQII", RECORDS_VERSION, 104, 6, 1, 11) + struct.pack("<H", 9) + b"reference"
    for position, decode, _, number, values in rows(arm):
        out += struct.pack("<QQ5dQ4I4iHBBB3x", int(values[0] * 8), number, min(values), max(values), sum(values) / 4, 1.2,
                           sum(map(abs, values)), 0, 4, 0, 0, 1, 1 if number == STAGES["final_rms"] else 0, position, 7 + position,
                           1 if decode else 0, 0, number, 1, 4 if decode else 0)
    return out + b"\0" * 8  # the target writes the hash


def trace():
    lines = [{"event": "post_wo_header", "schema": 1, "flags": ["token", "position"], **description(arm)} for arm in "ab"]
    for arm in "ab":
        for position, decode, stage, number, values in rows(arm):
            phase = "decode0" if decode else "prefill_last" if arm == "a" and position == 1 else "prefill"
            lines.append({"event": "post_wo_trace", "prompt_id": "p0", "exp": "E1", "arm": arm, "phase": phase, "point": stage,
                          "layer": 1 if number == STAGES["final_rms"] else 0, "step": 1 if decode else 0, "pos_id": position,
                          "token_id": 7 + position, "dtype": "f32", "count": 4, "sample_n": 4,
                          "hash": f"{int(values[0] * 8):032x}", "min": min(values), "max": max(values), "mean": 0.6,
                          "rms": 1.2, "abs_sum": 4.5, "nan": 0, "inf": 0, "nz_count": 3, "offset_bytes": 0, "sample": values,
                          "operands": [{"kind": "scalar", "argument": "eps", "value": 1e-5},
                                       {"kind": "activation", "argument": "x", "stage": "x_in", "layer": 0, "pos_id": position,
                                        "buffer": 1, "generation": 2, "dtype": "f32", "hash": "01" * 16}],
                          "route": "reference"})
        one = logits(arm)
        phase = "prefill_last" if arm == "a" else "decode0"
        lines.append({"event": "post_wo_logits", "prompt_id": "p0", "exp": "E1", "arm": arm, **one, "phase": phase})
    lines.append({"event": "post_wo_end", "lines": len(lines)})
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()


def part(index, content):
    """One file of a run_directory input (fuzz/run_directory.cpp)."""
    return struct.pack("<BH", index, len(content)) + content


def run_seeds():
    stores = b""
    for index, arm in ((1, "a"), (3, "b")):
        capture = {"schema": 1, **description(arm), "n_records": 6, "logits": [logits(arm)]}
        stores += part(index, json.dumps(capture).encode()) + part(index + 1, records(arm))
    traces = trace()
    yield "whole", b"\x03" + stores + part(5, traces)
    yield "stores", b"\x03" + stores
    yield "traces", b"\x05" + part(5, traces)
    yield "bare", b"\x08" + part(6, traces)
    empty = {"path": "other.jsonl", "size": 0, "xxh3": "2d06800538d394c2"}
    yield "manifest", b"\0" + part(0, json.dumps({"schema": 1, "experiment": "b3_41", "files": [empty]}).encode()) + part(6, b"")


def safetensors_seeds():
    sizes = {"F32": 4, "I64": 8, "F64": 8, "F16": 2, "BF16": 2}
    header, at = {"__metadata__": {"made": "here"}}, 0
    for name, kind, shape in (("0.x_in", "F32", [1, 2]), ("i", "I64", [1]), ("d", "F64", [1]), ("h", "F16", [4]),
                              ("b", "BF16", [2, 2]), ("none", "F32", [0])):
        size = sizes[kind]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header, separators=(",", ":")).encode()
    yield "all_types", struct.pack("<Q", len(head)) + head + b"\1" * at


def rows_file(tensors):
    """`tensors`: (name, shape, F32 values)."""
    header, data = {}, b""
    for name, shape, values in tensors:
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * len(values)]}
        data += struct.pack(f"<{len(values)}f", *values)
    head = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(head)) + head + data


def scene_seeds():
    """Of the model `llama()`: a norm that is off by a factor, scores of a wrong scale, a KV slot that another step overwrote."""
    def seed(stage, position, rows, **more):
        places = [{"layer": int(name[0]), "stage": name[2:], "dtype": "f32", "route": "reference"} for name, _, _ in rows]
        scene = {"schema": 1, "prompt": "p", "arm": "b", "stage": stage, "layer": 0, "position": position, "reread": False,
                 "other": False, "n_layers": 1, "model": "op.gguf", "model_hash": "0" * 16, "tokens": [1, 3, 4], "places": places,
                 "reread_row": [], "substitution": {"rows": 1, "guilty": 0, "left": 0}, **more}
        parts = [json.dumps(scene, separators=(",", ":")).encode(), rows_file(rows)]
        return b"".join(struct.pack("<H", len(one)) + one for one in parts) + llama()
    hidden, slots = [0.5, -1, 2, 0.25], [0.5, 1, -1, 2, 0.25, -0.5]
    yield "norm", seed("ffn_norm", 0, [("0.x_after_attn", [1, 4], hidden), ("0.ffn_norm", [1, 4], [1, -2, 4, 0.5])])
    scores = [0.0] * 18
    yield "scores", seed("attn_scores", 2, [("0.q_rope", [3, 4], hidden * 3), ("0.k_cache", [3, 2], slots),
                                            ("0.attn_scores", [3, 2, 3], scores)])
    yield "reread", seed("k_cache", 1, [("0.k_rope", [3, 2], slots), ("0.k_cache", [3, 2], slots)], reread=True,
                         reread_row=[7, "NaN"])


def main():
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "corpus"
    jsonl = [("own", trace())]
    for target, seeds in (("gguf", gguf_seeds()), ("jsonl", jsonl), ("run_directory", run_seeds()),
                          ("safetensors", safetensors_seeds()), ("scene", scene_seeds())):
        (corpus / target).mkdir(parents=True, exist_ok=True)
        for name, content in seeds:
            (corpus / target / name).write_bytes(content)


if __name__ == "__main__":
    main()
