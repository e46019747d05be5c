#!/usr/bin/env python3
"""Holds src/ to docs/architecture.md: who includes whom, where the environment is read, and what forward may not know.

usage: check_layers.py [TREE]      exit 1 with one line a violation
       check_layers.py --self-test  plants one violation of every rule in a copy of this tree and wants each reported

The table of layers stands once, in docs/architecture.md (the fenced block after "## Layers"); CMakeLists.txt must say the same.
"""

import pathlib
import re
import shutil
import sys
import tempfile

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
ENVIRONMENT = re.compile(r"\b(getenv|secure_getenv|setenv|putenv|unsetenv|environ)\b")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')


def read_table(tree):
    """{layer: set of layers it may include, itself among them}, from the architecture document."""
    text = (tree / "docs/architecture.md").read_text()
    block = re.search(r"## Layers.*?```\n(.*?)```", text, re.DOTALL)
    if block is None:
        sys.exit("docs/architecture.md: no fenced block after '## Layers'")
    table = {}
    for line in block[1].splitlines():
        found = re.match(r"src/(\w+)/.*?(?:->\s*([\w ]+))?$", line)
        if found:
            table[found[1]] = {found[1], *(found[2] or "").split()}
    everything = set(table)
    return {layer: everything if "all" in allowed else allowed for layer, allowed in table.items()}


def sources(tree):
    return sorted(p for p in (tree / "src").rglob("*") if p.suffix in (".h", ".cpp"))


def code(text):
    """Without comments (a comment may speak of anything)."""
    return COMMENT.sub("", text)


def check_includes(tree, table):
    for path in sources(tree):
        layer = path.relative_to(tree / "src").parts[0]
        allowed = table.get(layer)
        if allowed is None:
            yield f"{path.relative_to(tree)}: src/{layer} is not in the table of layers"
            continue
        for included in INCLUDE.findall(code(path.read_text())):
            target = included.split("/")[0]
            if target not in table:
                yield f'{path.relative_to(tree)}: include "{included}" does not begin with a layer; write "{layer}/…"'
            elif target not in allowed:
                yield f'{path.relative_to(tree)}: include "{included}": {layer} may include only {" ".join(sorted(allowed))}'


def check_cmake(tree, table):
    text = (tree / "CMakeLists.txt").read_text()
    declared = {
        name: {name, *(deps or "").split()}
        for name, deps in re.findall(r"^greta_layer\((\w+)(?: DEPS ([\w ]+?))?(?: LIBS .*?)?\)", text, re.MULTILINE | re.DOTALL)
    }
    for layer in sorted(set(table) - {"cli"}):
        if layer not in declared:
            yield f"CMakeLists.txt: no greta_layer({layer} …), which docs/architecture.md names"
        elif declared[layer] != table[layer]:
            yield f"CMakeLists.txt: greta_layer({layer}) depends on {sorted(declared[layer])}, docs/architecture.md says {sorted(table[layer])}"
    for layer in sorted(set(declared) - set(table)):
        yield f"CMakeLists.txt: greta_layer({layer}) is not in docs/architecture.md"


def check_environment(tree):
    for path in sources(tree):
        if path.relative_to(tree / "src").parts[0] == "cli":
            continue
        found = ENVIRONMENT.search(STRING.sub('""', code(path.read_text())))
        if found:
            yield f"{path.relative_to(tree)}: {found[1]}: only src/cli reads the environment"


def check_forward(tree):
    """One function for prefill and decode: no environment, no conditional compilation, no phase, no trace, no fault."""
    path = tree / "src/engine/forward.cpp"
    text = code(path.read_text())
    for pattern, why in (
        (r"^\s*#\s*(if|ifdef|ifndef|elif|else)\b", "conditional compilation"),
        (r"\b[Pp]hase\b|\bprefill\b|\bdecode\b", "a phase"),
        (r"\b[Ff]ault\w*|\b[Tt]race\w*|\b[Rr]ecord(er|ing)\w*", "a fault, trace or recording"),
    ):
        found = re.search(pattern, text, re.MULTILINE)
        if found:
            yield f"src/engine/forward.cpp: '{found[0].strip()}': forward knows {why}; it must not"


def violations(tree):
    table = read_table(tree)
    return [*check_includes(tree, table), *check_cmake(tree, table), *check_environment(tree), *check_forward(tree)]


def self_test(tree):
    """Every rule is seen to fail: (file, text put at its end, words of the report)."""
    plants = [
        ("src/engine/forward.cpp", '#include "trace/record.h"\n', "engine may include only"),
        ("src/core/stage.cpp", '#include "model/config.h"\n', "core may include only"),
        ("src/isolate/judge.h", '#include "engine/forward.h"\n', "isolate may include only"),
        ("src/core/stage.cpp", '#include "stage.h"\n', "does not begin with a layer"),
        ("src/newlayer/x.h", "int x;\n", "not in the table of layers"),
        ("src/ops/routes.h", "inline const char* x() { return std::getenv(\"X\"); }\n", "only src/cli reads the environment"),
        ("src/engine/forward.cpp", "int x() { return secure_getenv(0) != 0; }\n", "only src/cli reads the environment"),
        ("src/engine/forward.cpp", "#ifdef FAST\n#endif\n", "conditional compilation"),
        ("src/engine/forward.cpp", "int x(Phase p) { return 0; }\n", "knows a phase"),
        ("src/engine/forward.cpp", "int x(FaultyOps& p);\n", "knows a fault"),
        ("CMakeLists.txt", "greta_layer(extra DEPS core)\n", "not in docs/architecture.md"),
    ]
    missed = 0
    for file, text, words in plants:
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder)
            for part in ("src", "docs", "CMakeLists.txt"):
                (shutil.copytree if (tree / part).is_dir() else shutil.copy)(tree / part, copy / part)
            (copy / file).parent.mkdir(exist_ok=True)
            with (copy / file).open("a") as out:
                out.write(text)
            if not any(words in line for line in violations(copy)):
                missed += 1
                print(f"planted in {file}, not found: {text.strip()}")
    print(f"{len(plants) - missed} of {len(plants)} planted violations found")
    return 1 if missed else 0


def main():
    tree = pathlib.Path(__file__).resolve().parents[2]
    if sys.argv[1:] == ["--self-test"]:
        return self_test(tree)
    if len(sys.argv) > 1:
        tree = pathlib.Path(sys.argv[1])
    found = violations(tree)
    print("\n".join(found) if found else f"{len(sources(tree))} files of src/ keep to docs/architecture.md")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
