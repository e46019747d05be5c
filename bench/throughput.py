#!/usr/bin/env python3
"""Tokens a second of prefill and decode, the cost of tracing, and the time and memory of `greta isolate`.

usage: bench/throughput.py [--greta build/release/greta] [--work DIR] [--runs 3] [--plan reference --plan q8] [--big] [MODEL.gguf ...]

Without models: the demo model. --big adds a synthetic Q8_0 model of Llama-3.2-1B's shape (made in --work, 1.3 GB, 4 GB of
memory for the isolate run). Every figure is the median of --runs runs, minimum and maximum beside it; the traced run and the
untraced one take turns, so that their ratio holds when the machine's speed drifts. Where bench_ops is built beside greta, its
loop that only reads memory runs before and after every model: what decode could reach at best.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMPT = ("The old lighthouse stood at the end of the point, where the land went down into the sea in broken steps of grey "
          "stone. Every evening, before the sun was gone, the keeper climbed the hundred and forty steps to the lamp. ")


def spread(values, digits=1):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def run(greta, model, tokens, extra=()):
    command = [greta, "run", "--model", model, "--prompt", PROMPT * 2, "--max-tokens", str(tokens), "--greedy", "--ignore-eos",
               "--json", *extra]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def read_bandwidth(greta):
    bench = Path(greta).with_name("bench_ops")
    if not bench.exists():
        return "not measured (no bench_ops)"
    done = subprocess.run([bench, "--benchmark_filter=^read/", "--benchmark_format=json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{bench}\n{done.stderr}")
    return f"{json.loads(done.stdout)['benchmarks'][0]['bytes_per_second'] / 1e9:.1f} GB/s"


def measure(greta, model, runs, tokens, work, plan):
    plain, traced = [], []
    before = read_bandwidth(greta)
    run(greta, model, 2, ["--plan", plan])  # maps the file
    for _ in range(runs):
        plain.append(run(greta, model, tokens, ["--plan", plan]))
        traced.append(run(greta, model, tokens, ["--plan", plan, "--trace-stages", "all", "--trace-out", str(Path(work) / "trace.jsonl")]))
    ratio = {key: [t[key] / p[key] for p, t in zip(plain, traced)] for key in ("prefill_seconds", "decode_seconds")}
    size = os.path.getsize(model)
    decode = [p["decode_tokens_per_s"] for p in plain]
    print(f"{Path(model).name}, plan {plan}: prompt {plain[0]['prompt_tokens']} tokens; memory read at {before} before, "
          f"{read_bandwidth(greta)} after")
    print(f"  prefill tokens/s          {spread([p['prefill_tokens_per_s'] for p in plain])}")
    print(f"  decode tokens/s           {spread(decode)}   file bytes read a second {spread([d * size / 1e9 for d in decode])} GB/s")
    print(f"  traced/untraced, prefill  {spread(ratio['prefill_seconds'], 2)}   decode {spread(ratio['decode_seconds'], 2)}")


def measure_isolate(greta, model, work, plan):
    start = time.monotonic()
    job = subprocess.Popen([greta, "isolate", "--model", model, "--plan", plan,
                            "--out", str(Path(work) / f"isolate-{time.time_ns()}")],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(job.pid, 0)  # the peak of this child alone
    job.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    print(f"  greta isolate             {seconds:.1f} s, exit {job.returncode}, peak memory {usage.ru_maxrss * 1024 / 1e9:.2f} GB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--greta", default=str(ROOT / "build/release/greta"))
    parser.add_argument("--work")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--plan", action="append", help="reference and q8 by default")
    parser.add_argument("--no-isolate", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or temporary
        Path(work).mkdir(parents=True, exist_ok=True)
        models = args.models or [str(ROOT / "models/greta-demo.gguf")]
        if args.big:
            big = str(Path(work) / "llama3-1b.Q8_0.gguf")
            if not os.path.exists(big):
                subprocess.run([args.greta, "models", "synth", "--shape", "llama3-1b", "--type", "q8_0", "--seed", "1", "--out", big],
                               check=True)
            models.append(big)
        for model in models:
            for plan in args.plan or ["reference", "q8"]:
                measure(args.greta, model, args.runs, args.tokens, work, plan)
                if not args.no_isolate:
                    measure_isolate(args.greta, model, work, plan)


main()
