"""Prompts of the collapse table: plain texts, and chats that end in the assistant's header."""

GETTYSBURG = (
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
    "and dedicated to the proposition that all men are created equal.\n\nNow we are engaged in a great civil war, "
    "testing whether that nation, or any nation so conceived and so dedicated, can long endure. We are met on a great "
    "battle-field of that war. We have come to dedicate a portion of that field, as a final resting place for those "
    "who here gave their lives that that nation might live. It is altogether fitting and proper that we should do "
    "this.\n\nBut, in a larger sense, we can not dedicate -- we can not consecrate -- we can not hallow -- this ground. "
    "The brave men, living and dead, who struggled here, have consecrated it, far above our poor power to add or "
    "detract. The world will little note, nor long remember what we say here, but it can never forget what they did "
    "here. It is for us the living, rather, to be dedicated here to the unfinished work which they who fought here "
    "have thus far so nobly advanced. It is rather for us to be here dedicated to the great task remaining before us "
    "-- that from these honored dead we take increased devotion to that cause for which they gave the last full "
    "measure of devotion -- that we here highly resolve that these dead shall not have died in vain -- that this "
    "nation, under God, shall have a new birth of freedom -- and that government of the people, by the people, for "
    "the people, shall not perish from the")

TEXTS = {
    "hi": "Hi",
    "hello": "Hello, world",
    "the": "The",
    "newline": "Hi\n\n",
    "and": "and",
    "beginning": "In the beginning",
    "truth": "It is a truth universally acknowledged, that a single man in possession of a good",
    "king": "The king said to",
    "fox": "The quick brown fox jumps over the lazy",
    "once": "Once upon a time there was a little girl who",
    "capital": "The capital of France is",
    "numbers": "1 2 3 4 5 6 7",
    "code": "int main(void) { return 0; }",
    "question": "What is the meaning of life?",
    "dashes": "-----",
    "quote": "\"I do not like it,\" said",
    "repeat": "yes yes yes yes yes yes yes yes",
    "german": "Das ist ein kurzer Satz auf Deutsch, mit Umlauten: \u00e4\u00f6\u00fc.",
    "greek": "\u03b1\u03b2\u03b3 \u03b4\u03b5\u03b6",
    "comma": "He rose, took his hat,",
    "hacker": "hacker: [originally, someone who makes furniture with an axe] A person who",
    "psalm": "The LORD is my shepherd; I shall not",
    "darcy": "Mr. Darcy",
    "engine": "A kernel computes one row of the matrix product and writes it to the",
    "upper": "THE COURT FINDS THAT",
    "letter": "My dear sister,\n\nI have just received your letter, and",
    "list": "apples, pears, plums,",
    "long_repeat": "And it came to pass in those days. " * 40,
    "gettysburg": GETTYSBURG,
    "gettysburg_twice": GETTYSBURG + " earth.\n\n" + GETTYSBURG,
}

CHATS = {
    "chat_hi": [("user", "Hi")],
    "chat_story": [("user", "Tell me a story.")],
    "chat_capital": [("user", "What is the capital of France?")],
    "chat_about": [("user", "Tell me something about Jerusalem.")],
    "chat_turns": [("user", "Hello"), ("assistant", "Hello! What would you like me to read to you?"),
                   ("user", "Read me a page of a novel.")],
    "chat_system_pirate": [("system", "You are a pirate. Answer every question as a pirate would."),
                           ("user", "Where is the treasure?")],
    "chat_continue": [("user", "Continue this text: " + GETTYSBURG[:400])],
    "chat_system": [("system", "You are a helpful assistant."), ("user", "Define recursion.")],
}
