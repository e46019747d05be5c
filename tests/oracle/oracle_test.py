"""greta's plan float64 against tests/oracle/decoder.py, for every architecture and for odd shapes: relative RMS <= 1e-6.

A comparison must be able to fail: for each model, faults planted in the oracle's copy of it must be found.
"""

import argparse
import copy
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

from decoder import Decoder
from gguf_reader import read

TOLERANCE = 1e-6
PROMPT = "In the beginning the king walked along the river, and nobody knew why."  # of more tokens than any window here

# Arguments of `greta models synth`. Window 9, so that most positions of the prompt lose keys.
CASES = {
    "llama": ["--arch", "llama"],
    "llama-odd": ["--arch", "llama", "--heads", "7", "--kv-heads", "1", "--head-dim", "48", "--d-model", "90", "--ffn", "150",
                  "--vocab", "331"],
    "mistral": ["--arch", "mistral", "--window", "9"],
    "qwen2": ["--arch", "qwen2"],
    "qwen2-odd": ["--arch", "qwen2", "--heads", "7", "--kv-heads", "1", "--head-dim", "48", "--d-model", "90", "--ffn", "150",
                  "--vocab", "331", "--tied"],
    "qwen3": ["--arch", "qwen3", "--type", "f16"],
    "qwen3-odd": ["--arch", "qwen3", "--heads", "6", "--kv-heads", "2", "--head-dim", "80", "--d-model", "100", "--ffn", "70",
                  "--vocab", "299"],
    "gemma2": ["--arch", "gemma2", "--window", "9"],
    "gemma2-odd": ["--arch", "gemma2", "--window", "5", "--heads", "7", "--kv-heads", "1", "--head-dim", "48", "--d-model", "90",
                   "--ffn", "150", "--vocab", "331"],
    "gemma2-27b-scale": ["--arch", "gemma2", "--window", "9", "--layers", "46", "--d-model", "64", "--heads", "2", "--kv-heads",
                         "2", "--head-dim", "48", "--ffn", "64", "--vocab", "300"],
    "gemma3": ["--arch", "gemma3", "--window", "9", "--layers", "7", "--type", "q8_0"],
    "gemma3-odd": ["--arch", "gemma3", "--window", "5", "--layers", "7", "--heads", "6", "--kv-heads", "2", "--head-dim", "80",
                   "--d-model", "100", "--ffn", "70", "--vocab", "299"],
}


def without_bias(d):
    d.t = {k: v for k, v in d.t.items() if not k.endswith("attn_q.bias")}


def scaled(name, factor):
    def change(d):
        d.t = dict(d.t)
        d.t[name] = d.t[name] * factor
    return change


def wider_window(d):
    d.window += 1


def everywhere_local(d):
    d.is_local = lambda layer: True


def meta(key, value):
    def change(d):
        d.meta = dict(d.meta)
        d.meta[f"{d.arch}.{key}"] = value
    return change


def head_scale(d):
    d.scale = d.hd ** -0.5


def one_head_norm(d):
    d.t = dict(d.t)
    changed = d.t["blk.0.attn_k_norm.weight"].copy()
    changed[1] += 1e-3
    d.t["blk.0.attn_k_norm.weight"] = changed


# Faults in the oracle's model that must be found.
COMMON = {"rope theta": meta("rope.freq_base", 9999.0), "epsilon": lambda d: setattr(d, "eps", d.eps * 2)}
FAULTS = {
    "llama": {},
    "mistral": {"window + 1": wider_window},
    "qwen2": {"no bias of Q": without_bias},
    "qwen3": {"one element of k_norm": one_head_norm},
    "gemma2": {"window + 1": wider_window, "all layers local": everywhere_local, "no cap on scores": meta("attn_logit_softcapping", 0.0),
               "no cap on logits": meta("final_logit_softcapping", 0.0),
               "post norm": scaled("blk.1.post_ffw_norm.weight", 1.01)},
    "gemma2-27b-scale": {"scale by head_dim": head_scale},
    "gemma3": {"window + 1": wider_window, "all layers local": everywhere_local, "unscaled positions": meta("rope.scaling.factor", 1.0),
               "post norm": scaled("blk.1.post_attention_norm.weight", 1.01), "one element of k_norm": one_head_norm},
}


def read_logits(path):
    """A safetensors file: u64 length, JSON header, bytes."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        body = file.read()

    def tensor(name):
        kinds = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}
        info = header[name]
        begin, end = info["data_offsets"]
        return np.frombuffer(body[begin:end], kinds[info["dtype"]]).reshape(info["shape"])

    return tensor("logits"), tensor("tokens")


def relative_rms(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(a ** 2)))


def run(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nexit {done.returncode}: {done.stderr}")


def check(name, options, greta, directory):
    """The list of what went wrong."""
    model, out = os.path.join(directory, name + ".gguf"), os.path.join(directory, name + ".safetensors")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GRETA_")}
    run([greta, "models", "synth", "--seed", "11", "--context", "256", "--out", model, *options], environment)
    run([greta, "run", "--model", model, "--prompt", PROMPT, "--max-tokens", "0", "--plan", "float64", "--kv", "f64", "--logits-all",
         "--logits-out", out], environment)
    logits, tokens = read_logits(out)
    if len(logits) != len(tokens) or len(tokens) < 20:
        return [f"{name}: logits of {len(logits)} positions for {len(tokens)} tokens, wanted at least 20"]
    oracle = Decoder(*read(model))
    wanted = oracle.logits(tokens)
    error = relative_rms(wanted, logits)
    print(f"{name}: {len(tokens)} tokens, relative RMS {error:.2e}")
    wrong = [] if error <= TOLERANCE else [f"{name}: relative RMS {error:.3e} is above {TOLERANCE}"]
    for fault, plant in {**COMMON, **FAULTS.get(name, {})}.items():
        faulty = copy.copy(oracle)
        plant(faulty)
        found = relative_rms(faulty.logits(tokens), logits)
        print(f"  with {fault}: {found:.2e}")
        if not found > TOLERANCE:
            wrong.append(f"{name}: {fault} changed the logits by {found:.3e}, which this test cannot see")
    os.remove(model)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--greta", required=True)
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="only these")
    options = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        for name in options.case or CASES:
            wrong += check(name, CASES[name], options.greta, directory)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
