"""Checkpoint -> GGUF.  usage: export.py WORKDIR CHECKPOINT OUT.gguf"""
import sys
from pathlib import Path

import torch

import gguf
from bpe import SPECIALS, Tokenizer
from model import Config

CHAT_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}")


def metadata(cfg: Config, tok: Tokenizer) -> list[tuple]:
    n_text = len(tok.tokens) - len(SPECIALS)
    return [
        ("general.architecture", gguf.STRING, "llama"),
        ("general.name", gguf.STRING, "GRETA demo"),
        ("general.license", gguf.STRING, "cc0-1.0"),
        ("general.file_type", gguf.U32, 7),                                    # mostly Q8_0
        ("general.quantization_version", gguf.U32, 2),
        ("general.alignment", gguf.U32, gguf.ALIGNMENT),
        ("llama.context_length", gguf.U32, cfg.context),
        ("llama.embedding_length", gguf.U32, cfg.d),
        ("llama.block_count", gguf.U32, cfg.layers),
        ("llama.feed_forward_length", gguf.U32, cfg.ffn),
        ("llama.attention.head_count", gguf.U32, cfg.heads),
        ("llama.attention.head_count_kv", gguf.U32, cfg.kv_heads),
        ("llama.attention.layer_norm_rms_epsilon", gguf.FLOAT, cfg.eps),
        ("llama.rope.dimension_count", gguf.U32, cfg.head_dim),
        ("llama.rope.freq_base", gguf.FLOAT, cfg.theta),
        ("llama.vocab_size", gguf.U32, cfg.vocab),
        ("tokenizer.ggml.model", gguf.STRING, "gpt2"),
        ("tokenizer.ggml.pre", gguf.STRING, "llama-bpe"),
        ("tokenizer.ggml.tokens", gguf.ARRAY, gguf.STRING, tok.tokens),
        ("tokenizer.ggml.token_type", gguf.ARRAY, gguf.I32, [1] * n_text + [3] * len(SPECIALS)),
        ("tokenizer.ggml.merges", gguf.ARRAY, gguf.STRING, [f"{a} {b}" for a, b in tok.merges]),
        ("tokenizer.ggml.bos_token_id", gguf.U32, tok.bos),
        ("tokenizer.ggml.eos_token_id", gguf.U32, tok.eot),
        ("tokenizer.ggml.eot_token_id", gguf.U32, tok.eot),
        ("tokenizer.ggml.add_bos_token", gguf.BOOL, True),
        ("tokenizer.ggml.add_eos_token", gguf.BOOL, False),
        ("tokenizer.chat_template", gguf.STRING, CHAT_TEMPLATE),
    ]


def main(work: Path, checkpoint: Path, out: Path) -> None:
    state = torch.load(checkpoint, map_location="cpu")
    tensors = []
    for name, value in state.items():                       # blk.0.attn_q.weight and blk.0.attn_norm alike
        name = name if name.endswith(".weight") else name + ".weight"
        tensors.append((name, value.float().numpy()))
    gguf.write(out, metadata(Config(), Tokenizer.load(work / "tokenizer.json")), tensors)
    print(f"{out}: {out.stat().st_size} bytes, {sum(t.size for _, t in tensors)} parameters")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
