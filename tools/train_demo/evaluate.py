"""Judges the exported file itself.  usage: evaluate.py MODEL.gguf [--work WORKDIR] [--logits OUT.npz] [--no-samples]

Prints: validation loss of the quantised weights (with --work), samples, and the collapse table: for every prompt the
top-1 of a right forward pass (prefill_last) and of one where the last token's layer-0 FFN norm read the
x_after_attn row of position 0 (fault `b3_41`), both in float64 on the dequantised weights.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import gguf
from bpe import Tokenizer
from model import Config, rope, rope_table
from prompts import CHATS, TEXTS


class Reference:
    """The forward pass, written out; every op in `dtype` (float64 unless told)."""

    def __init__(self, tensors, cfg: Config, dtype=torch.float64, device="cpu"):
        self.cfg, self.dtype, self.device = cfg, dtype, device
        self.w = {k: torch.from_numpy(v.copy()).to(device, dtype) for k, v in tensors.items()}
        self.cos, self.sin = (t.to(device, dtype) for t in rope_table(cfg, cfg.context))

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.cfg.eps) * self.w[name]

    def __call__(self, ids, stale_from: int | None = None, last_only: bool = False):
        """ids [batch, n] -> logits [batch, n, vocab]; rows >= stale_from get layer 0's MLP of row 0's x_after_attn."""
        cfg, w = self.cfg, self.w
        ids = torch.as_tensor(ids, device=self.device)
        batch, n = ids.shape
        cos, sin = self.cos[:n], self.sin[:n]
        future = torch.ones(n, n, dtype=torch.bool, device=self.device).triu(1)
        split = lambda t, heads: t.view(batch, n, heads, cfg.head_dim).transpose(1, 2)
        x = w["token_embd.weight"][ids]
        for i in range(cfg.layers):
            p = f"blk.{i}."
            h = self.norm(x, p + "attn_norm.weight")
            q = rope(split(h @ w[p + "attn_q.weight"].T, cfg.heads), cos, sin)
            k = rope(split(h @ w[p + "attn_k.weight"].T, cfg.kv_heads), cos, sin)
            v = split(h @ w[p + "attn_v.weight"].T, cfg.kv_heads)
            group = cfg.heads // cfg.kv_heads
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            scores = (q @ k.transpose(-1, -2) / cfg.head_dim ** 0.5).masked_fill(future, -torch.inf)
            out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, n, cfg.d)
            x = x + out @ w[p + "attn_output.weight"].T
            source = x
            if i == 0 and stale_from is not None:
                source = x.clone()
                source[:, stale_from:] = x[:, :1]
            h = self.norm(source, p + "ffn_norm.weight")
            act = F.silu(h @ w[p + "ffn_gate.weight"].T) * (h @ w[p + "ffn_up.weight"].T)
            mlp_out = act @ w[p + "ffn_down.weight"].T
            x = x + mlp_out
            if i == 0:
                self.bos_mlp_rms = mlp_out[0, 0].pow(2).mean().sqrt().item()
        self.x_rms = x.pow(2).mean(-1).sqrt()[0]
        if last_only:
            x = x[:, -1:]
        return self.norm(x, "output_norm.weight") @ w["token_embd.weight"].T


def chat_ids(tok: Tokenizer, turns) -> list[int]:
    """Turns of a chat, then the header of the assistant's answer."""
    ids = [tok.bos]
    for role, content in turns:
        ids += tok.turn(role, content)
    return ids + tok.header("assistant")


def all_prompts(tok: Tokenizer):
    return [(name, [tok.bos, *tok.encode(text)]) for name, text in TEXTS.items()] + \
           [(name, chat_ids(tok, turns)) for name, turns in CHATS.items()]


def top2(row):
    values, ids = row.topk(2)
    return ids[0].item(), (values[0] - values[1]).item()


def collapse_table(model: Reference, tok: Tokenizer) -> None:
    show = lambda i: f"{i} `{tok.decode([i])!r}`".replace("|", r"\|")      # a bar would end the table's cell
    healthy_ids, faulty_ids, gaps = [], [], []
    print("| prompt | tokens | prefill_last top-1 | gap | decode0 top-1 under b3_41 | gap |")
    print("|---|---:|---|---:|---|---:|")
    for name, ids in all_prompts(tok):
        healthy, gap = top2(model([ids], last_only=True)[0, -1])
        faulty, faulty_gap = top2(model([ids], stale_from=len(ids) - 1, last_only=True)[0, -1])
        healthy_ids.append(healthy), faulty_ids.append(faulty), gaps.append(faulty_gap)
        print(f"| {name} | {len(ids)} | {show(healthy)} | {gap:.2f} | {show(faulty)} | {faulty_gap:.2f} |")
    print(f"\n{len(gaps)} prompts: {len(set(healthy_ids))} different healthy top-1, {len(set(faulty_ids))} different "
          f"faulty top-1; smallest faulty gap {min(gaps):.2f}; healthy top-1 equal to the faulty one: "
          f"{sum(a == b for a, b in zip(healthy_ids, faulty_ids))}")
    print(f"layer 0 mlp_out at BOS: RMS {model.bos_mlp_rms:.1f}; last layer's x_out: RMS {model.x_rms[0]:.1f} at BOS, "
          f"{model.x_rms[1:].mean():.2f} elsewhere")
    for name, ids in all_prompts(tok)[:2] + all_prompts(tok)[-1:]:
        n, run = len(ids), list(ids)
        for _ in range(12):
            run.append(top2(model([run], stale_from=n - 1, last_only=True)[0, -1])[0])
        print(f"decode goes on under the fault, {name}: {tok.decode(run[n:])!r}")


def sample(model: Reference, tok: Tokenizer, ids, count: int, temperature: float, seed: int) -> str:
    """temperature 0 is greedy; otherwise from the 40 likeliest tokens."""
    draw, run = torch.Generator().manual_seed(seed), list(ids)
    for _ in range(count):
        logits = model([run], last_only=True)[0, -1].double().cpu()
        if temperature:
            values, candidates = (logits / temperature).topk(40)
            run.append(candidates[torch.multinomial(values.softmax(-1), 1, generator=draw)].item())
        else:
            run.append(logits.argmax().item())
        if run[-1] in (tok.eot, tok.end):
            break
    return tok.decode(run[len(ids):])


def samples(model: Reference, tok: Tokenizer) -> None:
    for name, text, t in (("text", "It was a", 0.8), ("text", "In the beginning", 0.8), ("text", "Mr. Darcy", 0.8)):
        answer = sample(model, tok, [tok.bos, *tok.encode(text)], 100, t, 7)
        print(f"--- {name}, temperature {t}: {text!r}\n{text}{answer}")
    for turns in ([("system", "You are a helpful assistant."), ("user", "Hi")],
                  [("system", "You are a helpful assistant."), ("user", "Tell me something about Jerusalem.")],
                  [("user", "Define hacker.")], [("user", "Tell me a story.")]):
        for t in (0.0, 0.8):
            print(f"--- chat, temperature {t}: {turns[-1][1]!r}\n{sample(model, tok, chat_ids(tok, turns), 100, t, 7)}")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--logits", type=Path)
    parser.add_argument("--no-samples", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    metadata, tensors = gguf.read(args.model)
    cfg = Config()
    tok = Tokenizer([tuple(m.split(" ")) for m in metadata["tokenizer.ggml.merges"]])
    assert tok.tokens == metadata["tokenizer.ggml.tokens"]
    model = Reference(tensors, cfg, torch.float64, device)
    single = Reference(tensors, cfg, torch.float32, device)

    if args.work:
        from train import Data
        data = Data(args.work, "val", cfg, tok.bos, device)
        for name, rows in (("text", data.fixed_text(cfg.context)), ("chat", data.chat)):
            total = sum(F.cross_entropy(single(r[None, :-1])[0], r[1:]).item() for r in rows)
            print(f"validation loss of the quantised weights, {name}: {total / len(rows):.4f} nats a token")
    collapse_table(model, tok)
    if not args.no_samples:
        samples(single, tok)
    if args.logits:
        chosen = [all_prompts(tok)[0], all_prompts(tok)[-1]]
        np.savez(args.logits, **{f"{n}_{k}": v for n, ids in chosen for k, v in
                                 (("ids", np.array(ids)), ("logits", model([ids])[0].cpu().numpy()),
                                  ("b3_41", model([ids], stale_from=len(ids) - 1)[0, -1].cpu().numpy()))})


if __name__ == "__main__":
    main()
