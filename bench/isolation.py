#!/usr/bin/env python3
"""Processor time and memory of `greta isolate` beside the untraced passes of its arms.

usage: bench/isolation.py [--greta build/release/greta] [--work DIR] [--case healthy --case fault --case routes] [MODEL.gguf]

Without a model: a synthetic Q8_0 model of Llama-3.2-1B's shape (made in --work, 1.3 GB). Three short prompts. Cases:
  healthy  both arms in plan reference, span 16, controls included: bits decide
  fault    the same with --fault b3_41: the search for the cause and its confirmation
  routes   arm B in plan q8, span 1, the first prompt alone: every op of both arms is held to its rounding bound
Time is what the process itself used (user seconds, all threads), since a machine that does other things stretches the clock's.
The untraced passes are those of both arms: of every prompt two prefills (arm A's of n and of n+15 tokens, taken as two of n) and
one prefill with 16 decoded tokens (arm B), as `greta run` computes them. Memory is the peak less the size of the model file.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ["Only the first wrong number of a computation has a cause.\n",
           "Arm A prefills all rows at once, while arm B prefills all but the last and decodes that one.\n",
           "Two programs that compute the same function differ in the last bit: what may that bit become after sixteen layers of a "
           "network?\n"]
CASES = {"healthy": (3, ["--span", "16"], 0), "fault": (3, ["--span", "16", "--fault", "b3_41"], 1),
         "routes": (1, ["--arm-a", "plan=reference", "--arm-b", "plan=q8"], 0)}


def measure(command, expected):
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = job.stderr.read()
    _, status, usage = os.wait4(job.pid, 0)  # of this child alone
    job.returncode = os.waitstatus_to_exitcode(status)
    if job.returncode != expected:
        sys.exit(f"{' '.join(map(str, command))}\nexit {job.returncode}, wanted {expected}\n{errors}")
    return usage.ru_utime, usage.ru_maxrss * 1024


def untraced(greta, model, prompts):
    total = 0.0
    for prompt in prompts:
        for tokens, times in ((1, 2), (17, 1)):
            command = [greta, "run", "--model", model, "--prompt-file", prompt, "--max-tokens", str(tokens), "--greedy", "--ignore-eos"]
            total += times * measure(command, 0)[0]
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?")
    parser.add_argument("--greta", default=str(ROOT / "build/release/greta"))
    parser.add_argument("--work")
    parser.add_argument("--case", action="append", choices=list(CASES))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(args.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        model = args.model or str(work / "llama3-1b.Q8_0.gguf")
        if not os.path.exists(model):
            subprocess.run([args.greta, "models", "synth", "--shape", "llama3-1b", "--type", "q8_0", "--seed", "1", "--out", model],
                           check=True)
        prompts = []
        for i, text in enumerate(PROMPTS):
            prompts.append(str(Path(temporary) / f"p{i + 1}.txt"))
            Path(prompts[-1]).write_text(text, encoding="utf-8")
        print(f"untraced passes of three prompts: {untraced(args.greta, model, prompts):.1f} user s")
        for case in args.case or CASES:
            count, extra, expected = CASES[case]
            files = [word for prompt in prompts[:count] for word in ("--prompt-file", prompt)]
            out = ["--out", str(Path(temporary) / f"run-{case}")]
            user, peak = measure([args.greta, "isolate", model, *files, *extra, *out], expected)
            print(f"{case}: {user:.1f} user s, {(peak - os.path.getsize(model)) / 1e9:.2f} GB above the model file")


main()
