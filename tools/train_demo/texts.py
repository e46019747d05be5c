"""Readers for the five public-domain sources: each yields Doc(source, title, text) in reading order.

All text is normalised alike: lines of a paragraph joined, paragraphs separated by one empty line, typographic
quotes and dashes written in ASCII, so that the sources share one set of tokens.
"""
import gzip
import re
import struct
import zlib
from pathlib import Path
from typing import Iterator, NamedTuple


class Doc(NamedTuple):
    source: str
    title: str
    text: str


PUNCTUATION = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "\u2013": "-",
                             "\u2026": "...", "\u00a0": " ", "\u00b4": "'", "\u02bc": "'"})


def tidy(text: str) -> str:
    text = text.translate(PUNCTUATION)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" +([,.;:?!])", r"\1", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def join_paragraphs(lines: list[str]) -> str:
    """Joins the lines of each paragraph; a paragraph ends at an empty line."""
    return tidy("\n\n".join(" ".join(p.split()) for p in "\n".join(lines).split("\n\n") if p.strip()))


# -- Jane Austen, six novels: r-cran-janeaustenr keeps them as R character vectors, one string a line --------------

def r_string_vectors(path: Path) -> Iterator[list[str]]:
    """The character vectors of an R lazy-load database: (u32 size, zlib stream) chunks of XDR serialisation v3."""
    raw, pos = path.read_bytes(), 0
    while pos < len(raw):
        inflate = zlib.decompressobj()
        data = inflate.decompress(raw[pos + 4:])
        pos = len(raw) - len(inflate.unused_data)
        at = 14                                             # "X\n", format 3, writer version, minimal version
        (n,) = struct.unpack_from(">i", data, at)           # native encoding's name
        at += 4 + n
        flags, count = struct.unpack_from(">Ii", data, at)
        at += 8
        if flags & 255 != 16:                               # STRSXP
            continue
        strings = []
        for _ in range(count):
            _, n = struct.unpack_from(">Ii", data, at)
            at += 8
            strings.append(data[at:at + max(n, 0)].decode())
            at += max(n, 0)
        yield strings


def austen(root: Path) -> Iterator[Doc]:
    for lines in r_string_vectors(root / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"):
        novel = next(line for line in lines if line.strip()).title()
        chapters: list[list[str]] = []
        for line in lines:
            if re.match(r"(CHAPTER|Chapter) ", line):
                chapters.append([])
            elif chapters and not re.match(r"(VOLUME|THE END|FINIS|Finis)", line.strip()):
                chapters[-1].append(line.replace("_", ""))
        for i, chapter in enumerate(chapters):
            yield Doc("austen", f"{novel}, chapter {i + 1}", join_paragraphs(chapter))


# -- World English Bible: SWORD zText with OSIS markup, one zlib block a book --------------------------------------

def web(root: Path) -> Iterator[Doc]:
    base = root / "usr/share/sword/modules/texts/ztext/engWEB2015eb"
    osis = ""
    for testament in ("ot", "nt"):
        index, blocks = (base / f"{testament}.bzs").read_bytes(), (base / f"{testament}.bzz").read_bytes()
        for at in range(0, len(index) - 11, 12):
            offset, size, _ = struct.unpack_from("<III", index, at)
            osis += zlib.decompress(blocks[offset:offset + size]).decode() if size else ""
    osis = re.sub(r"<note\b.*?</note>", " ", osis, flags=re.S)
    osis = re.sub(r"<title\b.*?</title>", " ", osis, flags=re.S)
    osis = re.sub(r'<div [^>]*type="x-p"[^>]*>', "\n\n", osis)
    osis = re.sub(r"<lg? [^>]*sID=[^>]*>", "\n", osis)
    parts = re.split(r'<chapter n="\d+" osisID="(\w+)\.(\d+)"[^>]*>', osis)
    for book, chapter, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        body = re.split(r'<div [^>]*type="(?:book|introduction)"|<chapter eID', body)[0]
        text = tidy(re.sub(r"<[^>]*>", "", body))
        if len(text) > 200:
            yield Doc("web", f"{book} {chapter}", text)


# -- King James Version: the `bible -f` print, a verse a line ------------------------------------------------------

def kjv(kjv_txt: Path) -> Iterator[Doc]:
    chapters: dict[str, list[str]] = {}
    for line in kjv_txt.read_text().splitlines():
        m = re.match(r"(\d?[A-Za-z]+)(\d+):\d+ (.*)", line)
        if m:
            chapters.setdefault(f"{m[1]} {m[2]}", []).append(m[3])
    for title, verses in chapters.items():
        yield Doc("kjv", title, tidy("\n".join(verses)))


# -- The Jargon File and The Devil's Dictionary: dictd databases ---------------------------------------------------

def dictd_entries(root: Path, name: str) -> Iterator[str]:
    """Entries of a dictd database in file order; its index has `headword TAB offset TAB size` in base 64."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    def number(digits: str) -> int:
        value = 0
        for d in digits:
            value = value * 64 + alphabet.index(d)
        return value

    spans = set()
    for line in (root / f"usr/share/dictd/{name}.index").read_text().splitlines():
        word, offset, size = line.split("\t")[:3]
        if not word.startswith("00"):
            spans.add((number(offset), number(size)))
    data = gzip.decompress((root / f"usr/share/dictd/{name}.dict.dz").read_bytes())
    for offset, size in sorted(spans):
        yield data[offset:offset + size].decode(errors="replace")


def jargon(root: Path) -> Iterator[Doc]:
    for entry in dictd_entries(root, "jargon"):
        lines = entry.strip("\n").split("\n")
        body = re.sub(r"\{\s*([^}]*?)\s*\}", r"\1", "\n".join(line.strip() for line in lines[2:]))
        if len(lines) > 2 and not re.search(r"[|\\_^=*/#<>]{3}|\s[|]\s", body):      # leave ASCII art out
            text = join_paragraphs(body.split("\n"))
            if len(text) > 60:
                yield Doc("jargon", lines[0].strip(), f"{tidy(lines[0])}: {text}")


def devil(root: Path) -> Iterator[Doc]:
    for entry in dictd_entries(root, "devil"):
        lines = entry.strip("\n").split("\n")
        # Indented lines are verse or quotations: keep their line ends; other lines are prose, joined.
        text = ""
        for line in lines:
            verse = line.startswith("    ") or not line.strip()
            text += ("\n" if verse or text.endswith("\n") else " ") + line.strip().replace("_", "")
        m = re.match(r"([A-Z][A-Z' -]+),", text.strip())
        if m and len(text) > 40:
            yield Doc("devil", m[1].lower(), tidy(text))


def all_docs(work: Path) -> list[Doc]:
    root = work / "root"
    return [*austen(root), *web(root), *kjv(work / "kjv.txt"), *jargon(root), *devil(root)]


VALIDATION_BOOKS = ("Ruth", "Esth", "EsthGr", "Est", "Jonah", "Phil", "Phi", "Jas")


def is_validation(doc: Doc, index_in_source: int) -> bool:
    """The same books are held out of both Bibles, since each nearly gives the other's text away."""
    if doc.source in ("web", "kjv"):
        return doc.title.split()[0] in VALIDATION_BOOKS
    return index_in_source % 25 == 24
