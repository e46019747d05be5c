#!/usr/bin/env python3
"""Runs the commands of the documents and holds their outputs to what they print.

usage: readme_test.py --greta BINARY --source TREE [--self-test] FILE...

A fenced block after `<!-- test -->` is run by bash, all blocks of a file in one directory, in order. `<!-- test: exit N -->` says
which exit code its last command must have (0 where it is not said). A fenced block after `<!-- output -->` holds lines that the
block before printed; after `<!-- output: PATH -->`, lines of the file PATH that it wrote. `…` in a line stands for any text. A
Markdown table can stand in the place of a block of output.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

MARKED = re.compile(r"<!-- (test|output)(?:: ([^>]*?))? -->\n+(?:```\w*\n(.*?)```|((?:\|[^\n]*\n)+))", re.DOTALL)


def prepare(folder, source, greta):
    """A directory that looks like the checkout; what commands write stays in it."""
    for entry in source.iterdir():
        if entry.name not in (".git", "build") and not entry.name.startswith("artifacts"):
            (folder / entry.name).symlink_to(entry)
    (folder / "build/release").mkdir(parents=True)
    (folder / "build/release/greta").symlink_to(greta)


def run_block(script, wanted, folder):
    done = subprocess.run(["bash", "-uc", script], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=600, env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode != wanted:
        return done.stdout, [f"exit code {done.returncode}, not {wanted}:\n{script}\n{done.stdout}"]
    return done.stdout, []


def missing_lines(block, text):
    lines = [line.rstrip() for line in text.splitlines()]
    for wanted in filter(None, (line.rstrip() for line in block.splitlines())):
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("…")))
        if not any(pattern.fullmatch(line) for line in lines):
            yield f"the document says a line that was not printed: {wanted}\n--- printed:\n{text}"


def check(document, source, greta):
    """(number of blocks, failures)"""
    failures, printed, blocks = [], "", 0
    with tempfile.TemporaryDirectory(prefix="greta-readme-") as name:
        folder = pathlib.Path(name)
        prepare(folder, source, greta)
        for kind, argument, block, table in MARKED.findall(document):
            body = block or table
            blocks += 1
            if kind == "test":
                wanted = int(argument.split()[1]) if argument else 0
                printed, failed = run_block(body, wanted, folder)
                failures += failed
            elif argument:
                file = folder / argument
                failures += missing_lines(body, file.read_text()) if file.exists() else [f"{argument} was not written"]
            else:
                failures += missing_lines(body, printed)
    return blocks, failures


SELF_TEST = {  # document: whether it must pass
    "<!-- test -->\n```sh\necho one two\n```\n<!-- output -->\n```text\none …\n```\n": True,
    "<!-- test -->\n```sh\necho one\n```\n<!-- output -->\n```text\ntwo\n```\n": False,
    "<!-- test -->\n```sh\nfalse\n```\n": False,
    "<!-- test: exit 1 -->\n```sh\nfalse\n```\n": True,
    "<!-- test: exit 1 -->\n```sh\ntrue\n```\n": False,
    "<!-- test -->\n```sh\necho x >f\n```\n<!-- output: f -->\n```text\nx\n```\n": True,
    "<!-- test -->\n```sh\necho '| a | 1 |' >f\n```\n<!-- output: f -->\n| a | 1 |\n": True,
    "<!-- test -->\n```sh\necho '| a | 1 |' >f\n```\n<!-- output: f -->\n| a | 2 |\n": False,
    "<!-- test -->\n```sh\ntrue\n```\n<!-- output: f -->\n```text\nx\n```\n": False,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--greta", required=True, type=pathlib.Path)
    parser.add_argument("--source", required=True, type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    if args.self_test:
        wrong = [text for text, passes in SELF_TEST.items() if (not check(text, args.source, args.greta)[1]) != passes]
        print(*wrong, f"{len(SELF_TEST) - len(wrong)} of {len(SELF_TEST)} documents judged rightly", sep="\n")
        return 1 if wrong else 0
    failed = False
    for file in args.files:
        blocks, failures = check((args.source / file).read_text(), args.source, args.greta)
        if blocks == 0:
            failures = ["no block is marked <!-- test -->"]
        failed |= bool(failures)
        print(f"{file}: {blocks} blocks, {len(failures)} failures", *failures, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
