"""Logits of every position, in float64 numpy, for each architecture that greta reads. Whole sequences at once, no cache.

Written from the papers and the model cards' definitions: Llama (arXiv:2302.13971), Mistral 7B (2310.06825), Qwen2 (2407.10671),
Qwen3 (2505.09388), Gemma 2 (2408.00118), Gemma 3 (2503.19786).
"""

import numpy as np


def rms_norm(x, weight, eps):
    """Over the last axis."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x ** 3)))


def soft_cap(x, cap):
    return x if not cap else cap * np.tanh(x / cap)


def rotate(x, theta, scale, neighbours, factors):
    """x [n, heads, head_dim]: position p turns pair i by p / scale * theta^(-2i/head_dim) / factors[i]."""
    n, _, dim = x.shape
    frequency = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim) / factors
    angle = (np.arange(n, dtype=np.float64) / scale)[:, None] * frequency
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    out = np.empty_like(x)
    if neighbours:  # GGUF's llama stores Q and K so that pairs are (2i, 2i+1)
        a, b = x[..., 0::2], x[..., 1::2]
        out[..., 0::2], out[..., 1::2] = a * cos - b * sin, a * sin + b * cos
    else:
        a, b = x[..., :dim // 2], x[..., dim // 2:]
        out[..., :dim // 2], out[..., dim // 2:] = a * cos - b * sin, a * sin + b * cos
    return out


class Decoder:
    def __init__(self, metadata, tensors):
        self.arch = metadata["general.architecture"]
        self.meta, self.t = metadata, tensors
        self.layers = self.get("block_count")
        self.heads, self.kv_heads = self.get("attention.head_count"), self.get("attention.head_count_kv")
        self.d = self.get("embedding_length")
        self.hd = self.get("attention.key_length")
        self.eps = float(np.float32(self.get("attention.layer_norm_rms_epsilon")))
        self.window = self.get("attention.sliding_window", 0)
        self.gemma = self.arch.startswith("gemma")
        width = self.d / self.heads if (self.arch, self.layers) in (("gemma2", 46), ("gemma3", 62)) else self.hd
        self.scale = width ** -0.5

    def get(self, key, default=None):
        return self.meta.get(f"{self.arch}.{key}", default)

    def is_local(self, layer):
        """Does the layer look through the window only?"""
        if not self.window:
            return False
        if self.arch == "gemma2":  # local, global, local, global, ...
            return layer % 2 == 0
        if self.arch == "gemma3":  # five local layers, then a global one
            return (layer + 1) % 6 != 0
        return True

    def rope(self, layer, x):
        theta = self.get("rope.freq_base", 10000.0)
        scale = self.get("rope.scaling.factor", 1.0) if self.get("rope.scaling.type") == "linear" else 1.0
        if self.arch == "gemma3" and self.is_local(layer):
            theta, scale = 10000.0, 1.0
        return rotate(x, theta, scale, self.arch == "llama", self.t.get("rope_freqs.weight", 1.0))

    def project(self, x, name):
        y = x @ self.t[name + ".weight"].T
        return y + self.t[name + ".bias"] if name + ".bias" in self.t else y

    def attention(self, layer, x):
        p = f"blk.{layer}."
        n = len(x)
        q = self.project(x, p + "attn_q").reshape(n, self.heads, self.hd)
        k = self.project(x, p + "attn_k").reshape(n, self.kv_heads, self.hd)
        v = self.project(x, p + "attn_v").reshape(n, self.kv_heads, self.hd)
        if self.arch in ("qwen3", "gemma3"):
            q = rms_norm(q, self.t[p + "attn_q_norm.weight"], self.eps)
            k = rms_norm(k, self.t[p + "attn_k_norm.weight"], self.eps)
        q, k = self.rope(layer, q), self.rope(layer, k)
        shared = self.heads // self.kv_heads
        k, v = np.repeat(k, shared, axis=1), np.repeat(v, shared, axis=1)
        score = soft_cap(np.einsum("qhd,khd->hqk", q, k) * self.scale, self.get("attn_logit_softcapping", 0.0))
        query, key = np.arange(n)[:, None], np.arange(n)[None, :]
        hidden = key > query
        if self.is_local(layer):
            hidden |= key <= query - self.window
        score = np.where(hidden[None], -np.inf, score)
        weight = np.exp(score - score.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True)
        return self.project(np.einsum("hqk,khd->qhd", weight, v).reshape(n, -1), p + "attn_output")

    def feed_forward(self, layer, x):
        p = f"blk.{layer}."
        act = gelu_tanh if self.gemma else silu
        return self.project(act(self.project(x, p + "ffn_gate")) * self.project(x, p + "ffn_up"), p + "ffn_down")

    def logits(self, tokens):
        """[n, vocab]"""
        x = self.t["token_embd.weight"][tokens]
        if self.gemma:
            x = x * self.d ** 0.5
        for layer in range(self.layers):
            p = f"blk.{layer}."
            h = self.attention(layer, rms_norm(x, self.t[p + "attn_norm.weight"], self.eps))
            if self.gemma:
                h = rms_norm(h, self.t[p + "post_attention_norm.weight"], self.eps)
            x = x + h
            h = self.feed_forward(layer, rms_norm(x, self.t[p + "ffn_norm.weight"], self.eps))
            if self.gemma:
                h = rms_norm(h, self.t[p + "post_ffw_norm.weight"], self.eps)
            x = x + h
        head = self.t.get("output.weight", self.t["token_embd.weight"])
        return soft_cap(rms_norm(x, self.t["output_norm.weight"], self.eps) @ head.T, self.get("final_logit_softcapping", 0.0))
