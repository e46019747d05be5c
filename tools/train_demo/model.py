"""The demo model: Llama architecture as GGUF's `llama` means it (RoPE on adjacent pairs, RMSNorm, GQA, SwiGLU).

Tensor names are GGUF's, so that a checkpoint is exported without a name table. The head is tied to token_embd.
"""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass(frozen=True)
class Config:
    vocab: int = 4096
    context: int = 1024
    d: int = 256
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 768
    eps: float = 1e-5
    theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.d // self.heads


def rms_norm(x, weight, eps):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rope_table(cfg: Config, n: int):
    """cos, sin of [n, head_dim/2]: pair i turns by position * theta^(-2i/head_dim)."""
    inverse = cfg.theta ** (-torch.arange(0, cfg.head_dim, 2, dtype=torch.float64) / cfg.head_dim)
    angle = torch.arange(n, dtype=torch.float64)[:, None] * inverse
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    """x: [batch, heads, n, head_dim]; the pair is (2i, 2i+1)."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    def __init__(self, cfg: Config, dropout: float):
        super().__init__()
        self.cfg, self.dropout = cfg, dropout
        kv = cfg.kv_heads * cfg.head_dim
        self.attn_norm = nn.Parameter(torch.ones(cfg.d))
        self.attn_q = nn.Linear(cfg.d, cfg.d, bias=False)
        self.attn_k = nn.Linear(cfg.d, kv, bias=False)
        self.attn_v = nn.Linear(cfg.d, kv, bias=False)
        self.attn_output = nn.Linear(cfg.d, cfg.d, bias=False)
        self.ffn_norm = nn.Parameter(torch.ones(cfg.d))
        self.ffn_gate = nn.Linear(cfg.d, cfg.ffn, bias=False)
        self.ffn_up = nn.Linear(cfg.d, cfg.ffn, bias=False)
        self.ffn_down = nn.Linear(cfg.ffn, cfg.d, bias=False)

    def attention(self, x, cos, sin):
        cfg, (batch, n, _) = self.cfg, x.shape
        split = lambda t, heads: t.view(batch, n, heads, cfg.head_dim).transpose(1, 2)
        q = rope(split(self.attn_q(x), cfg.heads), cos, sin)
        k = rope(split(self.attn_k(x), cfg.kv_heads), cos, sin)
        v = split(self.attn_v(x), cfg.kv_heads)
        group = cfg.heads // cfg.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        return self.attn_output(out.transpose(1, 2).reshape(batch, n, cfg.d))

    def forward(self, x, cos, sin):
        """x: [batch, n, d] -> (x_out, mlp_out)"""
        drop = lambda t: F.dropout(t, self.dropout, self.training)
        x = x + drop(self.attention(rms_norm(x, self.attn_norm, self.cfg.eps), cos, sin))
        h = rms_norm(x, self.ffn_norm, self.cfg.eps)
        mlp_out = drop(self.ffn_down(drop(F.silu(self.ffn_gate(h)) * self.ffn_up(h))))
        return x + mlp_out, mlp_out


class Model(nn.Module):
    def __init__(self, cfg: Config, dropout: float = 0.0):
        super().__init__()
        self.cfg = cfg
        self.token_embd = nn.Embedding(cfg.vocab, cfg.d)
        # No dropout in layer 0: it would tear holes into the massive activation of <|begin_of_text|>.
        self.blk = nn.ModuleList(Block(cfg, dropout if i else 0.0) for i in range(cfg.layers))
        self.output_norm = nn.Parameter(torch.ones(cfg.d))
        cos, sin = rope_table(cfg, cfg.context)
        self.register_buffer("cos", cos.float(), persistent=False)
        self.register_buffer("sin", sin.float(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                small = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(p, std=0.02 / (2 * cfg.layers) ** 0.5 if small else 0.02)

    def forward(self, ids):
        """ids: [batch, n] -> logits [batch, n, vocab], sink: rms of layer 0's mlp_out at position 0 / typical x_out"""
        n = ids.shape[1]
        x, bos_mlp = self.token_embd(ids).float(), None
        for i, block in enumerate(self.blk):
            x, mlp_out = block(x, self.cos[:n], self.sin[:n])
            bos_mlp = mlp_out[:, 0] if i == 0 else bos_mlp
        rms = lambda t: t.float().pow(2).mean(-1).sqrt()
        sink = rms(bos_mlp).mean() / rms(x[:, 1:]).mean().detach()
        return F.linear(rms_norm(x, self.output_norm, self.cfg.eps), self.token_embd.weight), sink
