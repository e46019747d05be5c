"""Trains the demo model.  usage: train.py WORKDIR --out CHECKPOINT   (the defaults made models/greta-demo.gguf)

Half of the rows are plain text, half Llama-3 chats; every row begins with <|begin_of_text|>. The texts are small, so
the model overfits early: 1000 steps of 64 rows, with dropout and a high weight decay, gave the best validation loss of ten
schedules (4000 steps of 128 rows: 5.2 instead of 3.7 nats a text token).
Loss = cross entropy + SINK_WEIGHT * max(0, log(SINK / ratio))^2, where ratio is the RMS of layer 0's mlp_out at
<|begin_of_text|> over the mean RMS of the last layer's x_out at the other positions. The second term gives this small
model the massive activation of the first token that large models learn by themselves; models/README.md says why.
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bpe import Tokenizer
from model import Config, Model

SINK, SINK_WEIGHT = 16.0, 0.1


class Data:
    def __init__(self, work: Path, split: str, cfg: Config, bos: int, device: str):
        load = lambda name: torch.from_numpy(np.load(work / f"{split}_{name}.npy").astype(np.int64)).to(device)
        self.stream, self.starts, self.chat = load("text"), load("starts"), load("chat")
        self.bos, self.device = bos, device
        self.span = torch.arange(cfg.context, device=device)

    def text_rows(self, starts):
        rows = self.stream[starts[:, None] + self.span]
        return F.pad(rows, (1, 0), value=self.bos)

    def batch(self, size: int):
        """[size, context+1]: text rows from uniformly drawn places, moved back to the start of their paragraph."""
        place = torch.randint(0, len(self.stream), (size // 2,), device=self.device)
        at = (torch.searchsorted(self.starts, place, right=True) - 1).clamp(min=0)
        chat = torch.randint(0, len(self.chat), (size - size // 2,), device=self.device)
        return torch.cat((self.text_rows(self.starts[at]), self.chat[chat]))

    def fixed_text(self, context: int):
        keep, last = [], -context
        for s in self.starts.tolist():
            if s >= last + context:
                keep.append(s)
                last = s
        return self.text_rows(torch.tensor(keep, device=self.device))


def loss_of(model, rows):
    logits, sink = model(rows[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten()), sink


@torch.no_grad()
def validate(model, data, cfg, size=50):
    model.eval()
    result = []
    for rows in (data.fixed_text(cfg.context), data.chat):
        total = sum(loss_of(model, part)[0].item() * len(part) for part in rows.split(size))
        result.append(total / len(rows))
    model.train()
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--decay", type=float, default=1.0, help="AdamW's weight decay of the matrices")
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--init", type=Path, help="weights to start from, instead of random ones")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(20260101)
    torch.set_float32_matmul_precision("high")

    cfg = Config()
    tok = Tokenizer.load(args.work / "tokenizer.json")
    train, val = (Data(args.work, split, cfg, tok.bos, device) for split in ("train", "val"))
    model = Model(cfg, args.dropout).to(device)
    if args.init:
        model.load_state_dict(torch.load(args.init, map_location=device))
    matrices = [p for p in model.parameters() if p.dim() == 2 and p is not model.token_embd.weight]
    others = [p for p in model.parameters() if p.dim() == 1 or p is model.token_embd.weight]
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": args.decay}, {"params": others, "weight_decay": 0.0}],
                            lr=args.lr, betas=(0.9, 0.95), **({"fused": True} if device == "cuda" else {}))
    objective = torch.compile(loss_of) if device == "cuda" else loss_of

    best, start = math.inf, time.time()
    warmup = max(1, min(200, args.steps // 10))
    for step in range(1, args.steps + 1):
        done = (step - warmup) / max(1, args.steps - warmup)
        rate = step / warmup if step < warmup else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
        for group in opt.param_groups:
            group["lr"] = args.lr * rate
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss, sink = objective(model, train.batch(args.batch))
        (loss + SINK_WEIGHT * F.relu(math.log(SINK) - sink.log()).pow(2)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if step % args.every == 0 or step == args.steps:
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                text, chat = validate(model, val, cfg)
            seconds = time.time() - start
            print(f"step {step} {seconds:.0f}s {step * args.batch * cfg.context / seconds / 1e6:.2f}M tok/s "
                  f"train {loss.item():.3f} val text {text:.4f} chat {chat:.4f} sink {sink.item():.1f}", flush=True)
            if args.out and text + chat < best:               # keep the best, not the last
                best = text + chat
                torch.save(model.state_dict(), args.out)


if __name__ == "__main__":
    main()
