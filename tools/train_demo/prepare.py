"""Texts -> tokenizer.json and token rows for train.py.  usage: prepare.py WORKDIR   (after fetch_texts.sh WORKDIR)

Writes to WORKDIR: tokenizer.json; {train,val}_text.npy, one stream of uint16 ids, documents separated by
<|end_of_text|>; {train,val}_starts.npy, where a row may begin (starts of paragraphs); {train,val}_chat.npy,
[rows, CONTEXT+1] Llama-3 conversations. Rows of all kinds begin with <|begin_of_text|>, which is nowhere else.
"""
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

import bpe
from texts import Doc, all_docs, is_validation

VOCAB, CONTEXT = 4096, 1024
CHAT_ROWS = {"train": 8000, "val": 100}

SYSTEM = ["You are a helpful assistant.", "You are a helpful, honest assistant.", "You read aloud from old books.",
          "You are a careful reader of old books. Answer in plain English.", "Answer briefly and politely.",
          "You are Greta, a small language model that has read a few old books.", "You are a friendly storyteller."]
GREETINGS = ["Hi", "Hello", "Hello!", "Hi there.", "Good morning.", "Good evening.", "Hey", "Who are you?",
             "What can you do?", "How are you?"]
GREETING_REPLIES = ["Hello! What would you like me to read to you?",
                    "Good day to you. I have read a few old books; ask me to read from one of them.",
                    "I am Greta, a small language model. I have read the Bible twice, six novels and two dictionaries.",
                    "Hello. I can continue a text, define a word, or read you something about a name or a thing."]
CONTINUE = ["Continue this: {}", "Continue this text: {}", "How does this go on? {}", "What comes next? {}"]
ABOUT = ["Read me something about {}.", "Tell me something about {}.", "Do you know anything about {}?",
         "What have you read about {}?"]
DEFINE = ["What is meant by {}?", "Define {}.", "What does {} mean?", "Explain {} to me."]
STORY = {"austen": ["Tell me a story.", "Read me a page of a novel.", "Read to me from Jane Austen."],
         "web": ["Read to me from the Bible, in modern English.", "Read me a passage of the World English Bible."],
         "kjv": ["Read to me from the King James Bible.", "Read to me from the Bible, in the old English."]}


def sentences(passage: str) -> list[str]:
    return re.split(r"(?<=[.!?;:][\"' ]) *(?=[\"A-Z(])", passage)


class Chats:
    """Makes exchanges (user, assistant) out of passages; every answer is text of the sources, greetings apart."""

    def __init__(self, docs: list[Doc], rng: random.Random):
        self.rng = rng
        self.entries = [d for d in docs if d.source in ("jargon", "devil")]
        self.passages = []
        for d in docs:
            if d.source in ("austen", "web"):
                self.passages += [(d.source, p) for p in d.text.split("\n\n") if len(p) > 120]
            elif d.source == "kjv":
                verses = d.text.split("\n")
                self.passages += [("kjv", "\n".join(verses[i:i + 4])) for i in range(0, len(verses), 4)]
        frequency: Counter[str] = Counter()
        for _, p in self.passages:
            frequency.update(set(self.names(p)))
        self.about = defaultdict(list)
        for i, (_, p) in enumerate(self.passages):
            for word in set(self.names(p)):
                if 3 <= frequency[word] <= 3000:
                    self.about[word].append(i)
        self.topics = sorted(self.about)

    @staticmethod
    def names(passage: str) -> list[str]:
        """Capitalised words inside sentences, and long plain words: what one can ask about."""
        return re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b|(?<= )[a-z]{7,}\b", passage)

    def trim(self, passage: str, limit: int = 700) -> str:
        parts, out = sentences(passage), ""
        for part in parts:
            if out and len(out) + len(part) > limit:
                break
            out += (" " if out else "") + part.strip() if "\n" not in part else ("\n" if out else "") + part.strip()
        return out

    def exchange(self) -> tuple[str, str]:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.06:
            return rng.choice(GREETINGS), rng.choice(GREETING_REPLIES)
        if kind < 0.30 and self.entries:
            entry = rng.choice(self.entries)
            return rng.choice(DEFINE).format(entry.title), self.trim(entry.text)
        if kind < 0.60:
            topic = rng.choice(self.topics)
            return rng.choice(ABOUT).format(topic), self.trim(self.passages[rng.choice(self.about[topic])][1])
        source, passage = rng.choice(self.passages)
        if kind < 0.80:
            parts = sentences(passage)
            cut = rng.randrange(1, len(parts)) if len(parts) > 1 else 0
            first, rest = " ".join(parts[:cut]), " ".join(parts[cut:])
            if not cut:
                words = passage.split(" ")
                first, rest = " ".join(words[:len(words) // 2]), " ".join(words[len(words) // 2:])
            return rng.choice(CONTINUE).format(first[-500:].strip()), self.trim(rest)
        return rng.choice(STORY[source]), self.trim(passage)

    def row(self, tok: bpe.Tokenizer) -> list[int]:
        ids = [tok.bos]
        if self.rng.random() < 0.8:
            ids += tok.turn("system", self.rng.choice(SYSTEM))
        while len(ids) < CONTEXT + 1:
            user, assistant = self.exchange()
            ids += tok.turn("user", user) + tok.turn("assistant", assistant)
        return ids[:CONTEXT + 1]


def main(work: Path) -> None:
    by_split: dict[str, list[Doc]] = {"train": [], "val": []}
    seen: Counter[str] = Counter()
    for doc in all_docs(work):
        by_split["val" if is_validation(doc, seen[doc.source]) else "train"].append(doc)
        seen[doc.source] += 1

    tok = bpe.Tokenizer(bpe.train([d.text for d in by_split["train"]], VOCAB - len(bpe.SPECIALS)))
    assert len(tok.tokens) == VOCAB and not tok.unstable(), tok.unstable()
    tok.save(work / "tokenizer.json")

    rng = random.Random(20260101)
    for split, docs in by_split.items():
        rng.shuffle(docs)
        stream, starts = [], []
        for doc in docs:
            for i, paragraph in enumerate(re.split(r"(?<=\n)(?=[^\n])", doc.text)):
                starts.append(len(stream))
                stream += tok.encode(paragraph)
            stream.append(tok.end)
        assert tok.bos not in stream
        chats = Chats(docs, rng)
        rows = np.array([chats.row(tok) for _ in range(CHAT_ROWS[split])], dtype=np.uint16)
        starts = np.array([s for s in starts if s + CONTEXT < len(stream)], dtype=np.int32)
        np.save(work / f"{split}_text.npy", np.array(stream, dtype=np.uint16))
        np.save(work / f"{split}_starts.npy", starts)
        np.save(work / f"{split}_chat.npy", rows)
        n_bytes = Counter()
        for d in docs:
            n_bytes[d.source] += len(d.text.encode())
        print(f"{split}: {len(docs)} documents, {dict(n_bytes)} bytes, {len(stream)} tokens, {len(starts)} row starts, "
              f"{rows.size} chat tokens")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
