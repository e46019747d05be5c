"""Byte-level BPE as in GPT-2 and Llama 3: training, encoding, decoding. Plain Python and the `regex` module.

Ids: 0..255 are the bytes in GPT-2's order, then one id a merge in rank order, then the special tokens. Every token's
own bytes encode to that one token by plain merges (prepare.py checks it), so an encoder that first looks up
whole words (`ignore_merges` of Llama 3) and one that only merges give the same ids.
"""
import heapq
import json
from collections import Counter, defaultdict

import regex

# The pre-tokeniser that GGUF calls "llama-bpe".
WORDS = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte; its order is the order of ids 0..255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in printable}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(table) - len(printable))
    return table


BYTE_TO_CHAR = byte_alphabet()
CHAR_TO_BYTE = {c: b for b, c in BYTE_TO_CHAR.items()}


def spell(word: str) -> str:
    return "".join(BYTE_TO_CHAR[b] for b in word.encode())


def train(texts: list[str], n_tokens: int) -> list[tuple[str, str]]:
    """Merges, most frequent pair first, ties to the smaller pair of strings, until bytes + merges = n_tokens."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(WORDS.findall(text))
    words = [(list(spell(w)), n) for w, n in sorted(counts.items())]
    pairs: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[int]] = defaultdict(set)
    for i, (parts, n) in enumerate(words):
        for pair in zip(parts, parts[1:]):
            pairs[pair] += n
            where[pair].add(i)
    heap = [(-n, pair) for pair, n in pairs.items()]
    heapq.heapify(heap)
    merges: list[tuple[str, str]] = []
    while len(merges) < n_tokens - 256:
        negative, pair = heapq.heappop(heap)
        if pairs[pair] != -negative:                      # an outdated entry; a current one is in the heap too
            continue
        merges.append(pair)
        changed = set()
        for i in where.pop(pair):
            parts, n = words[i]
            for old in zip(parts, parts[1:]):
                pairs[old] -= n
                changed.add(old)
            k = 0
            while k < len(parts) - 1:
                if (parts[k], parts[k + 1]) == pair:
                    parts[k:k + 2] = [parts[k] + parts[k + 1]]
                k += 1
            for new in zip(parts, parts[1:]):
                pairs[new] += n
                where[new].add(i)
                changed.add(new)
        for p in changed:
            if pairs[p] > 0:
                heapq.heappush(heap, (-pairs[p], p))
    return merges


class Tokenizer:
    def __init__(self, merges: list[tuple[str, str]]):
        self.merges = merges
        self.tokens = list(BYTE_TO_CHAR.values()) + [a + b for a, b in merges] + SPECIALS
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        assert len(self.ids) == len(self.tokens), "two merges give one string"
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.bos, self.end, self.start_header, self.end_header, self.eot = (self.ids[s] for s in SPECIALS)
        self._cache: dict[str, list[int]] = {}

    def merge(self, word: str) -> list[int]:
        """Ids of one pre-tokenised word: always the pair of lowest rank first, leftmost among equals."""
        parts = list(spell(word))
        while len(parts) > 1:
            rank, k = min((self.ranks.get(pair, 1 << 30), k) for k, pair in enumerate(zip(parts, parts[1:])))
            if rank == 1 << 30:
                break
            parts[k:k + 2] = [parts[k] + parts[k + 1]]
        return [self.ids[p] for p in parts]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; special tokens are never recognised in it."""
        out: list[int] = []
        for word in WORDS.findall(text):
            if word not in self._cache:
                self._cache[word] = self.merge(word)
            out += self._cache[word]
        return out

    def turn(self, role: str, content: str) -> list[int]:
        """A Llama-3 chat turn."""
        return self.header(role) + self.encode(content.strip()) + [self.eot]

    def header(self, role: str) -> list[int]:
        return [self.start_header, *self.encode(role), self.end_header, *self.encode("\n\n")]

    def decode(self, ids: list[int]) -> str:
        n_text = len(self.tokens) - len(SPECIALS)
        out = b""
        for i in ids:
            out += bytes(CHAR_TO_BYTE[c] for c in self.tokens[i]) if i < n_text else self.tokens[i].encode()
        return out.decode(errors="replace")

    def save(self, path) -> None:
        path.write_text(json.dumps({"merges": self.merges}, ensure_ascii=False))

    @classmethod
    def load(cls, path) -> "Tokenizer":
        return cls([tuple(pair) for pair in json.loads(path.read_text())["merges"]])

    def unstable(self) -> list[str]:
        """Tokens whose own bytes do not merge back into them (none, for merges that train() made)."""
        bad = []
        for i, token in enumerate(self.tokens[:-len(SPECIALS)]):
            parts = list(token)
            while len(parts) > 1:
                rank, k = min((self.ranks.get(pair, 1 << 30), k) for k, pair in enumerate(zip(parts, parts[1:])))
                if rank == 1 << 30:
                    break
                parts[k:k + 2] = [parts[k] + parts[k + 1]]
            if [self.ids[p] for p in parts] != [i]:
                bad.append(token)
        return bad
