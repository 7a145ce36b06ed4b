"""Chat rows for the starter model, derived from a file of short stories and a table of small talk.

The stories are TinyStories (Eldan and Li 2023), separated by ``<|endoftext|>``. A story becomes one
conversation that tells it in turns (its beginning, what happened next, how it ends), so that every
sentence is in exactly one answer. Questions and answers between characters of a story become short
conversations. No model generates any text, and the same file and seed give the same rows.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

Turn = tuple[str, str]
"""Message of the user and answer of the assistant."""

Row = dict[str, list[dict[str, str]]]
"""Chat row in OpenAI's format."""

END_OF_STORY = "<|endoftext|>"
STORY_WORD_COUNTS = range(40, 331)
"""Accepted story lengths in words.

Shorter stories have no ending; longer ones exceed the model's context.
"""

SYSTEM_PROMPTS = (
    "You are a kind storyteller.",
    "You tell little stories.",
    "You are a friendly helper for children.",
)
GENERIC_REQUESTS = (
    "Tell me a story.",
    "Can you tell me a story?",
    "I want to hear a story.",
    "Please tell me a story!",
    "tell me a story",
    "Do you know a story?",
)
TOPIC_REQUESTS = (
    "Tell me a story about {}.",
    "Can you tell me a story about {}?",
    "I want to hear a story about {}.",
    "Do you know a story about {}?",
    "Please tell me a story about {}!",
    "Write a story about {}.",
    "tell me a story about {}",
)
CONTINUE_REQUESTS = (
    "What happened next?",
    "What happened then?",
    "And then?",
    "Go on.",
    "Tell me more.",
    "Please go on!",
)
ENDING_REQUESTS = ("How does the story end?", "How does it end?", "What is the end of the story?")
CHARACTER_QUESTIONS = ("Who is in this story?", "Who is in the story?", "Who is the story about?", "Who is it about?")


def _split_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SUBJECTS = _split_words(
    """animal ant apple baby ball balloon bear bed bee beetle bell bike bird boat book bowl box bug bunny bus
    butterfly cake camera candy car castle cat caterpillar chair chicken clown coat cookie cow crab crown crow
    dinosaur doctor dog doll dolphin donkey dragon dress drum duck eagle elephant fairy farm farmer fish flower
    forest fox frog game garden ghost giraffe goat grandma guitar hat hen hippo horse jar kangaroo key king kite
    kitten knight ladder lake lamp leaf lemon letter library lion lizard machine magnet market mermaid mirror
    monkey monster mountain mouse mushroom nest nurse ocean octopus owl painter panda parade parrot party
    penguin phone piano picture pie pig pirate pizza plane plant pony pool potato prince princess pumpkin puppy
    purse puzzle queen rabbit rainbow ring river robot rock rocket rope sailor salad scarf school seal seed
    shark sheep shell ship shirt shoe shop snail snake snowman soup spider spoon squirrel star storm sun swan
    swing teacher teddy tent tiger tower toy train treasure tree truck turtle umbrella unicorn whale window
    witch wizard wolf worm zebra zoo"""
)
NOT_NAMES = _split_words(
    """I A An And As At Be But By Can Come Do Don Every Everyone For From Good Happy He Hello Her Hey Hi His How If
    In Is It Its Let Look Make Mr Mrs Ms My No Not Now Of Oh Ok Okay On Once One Or Our Please She So Some Sorry
    Stop Thank Thanks That The Their Then There They This To Too Wait We Well Wow What When Where Who Why With
    Yes You Your"""
)

_SENTENCE = re.compile(r"(?<=[.!?])[\"']?\s+(?=[\"'A-Z])|\n+")
_INTRODUCED_NAME = re.compile(r"\b(?:named|called|name was) ([A-Z][a-z]+)\b")
_CAPITALIZED_WORD = re.compile(r"(?<=[a-z,] )([A-Z][a-z]+)\b")
_OTHER_SPEAKER = re.compile(r"^\s*$|[.!\n]\s*[A-Z]")
_QUOTE = re.compile(r'"([^"\n]{2,160})"')


def read_stories(path: Path) -> list[str]:
    """Read every complete ASCII story with a length in ``STORY_WORD_COUNTS``, in file order,
    without duplicates.
    """
    stories = path.read_text(encoding="utf-8").split(END_OF_STORY)[:-1]
    ascii_stories = (story.translate(str.maketrans("“”‘’", "\"\"''")).strip() for story in stories)
    return list(
        dict.fromkeys(story for story in ascii_stories if story.isascii() and len(story.split()) in STORY_WORD_COUNTS)
    )


def split_sentences(story: str) -> list[str]:
    """Split a story into sentences. A closing quotation mark stays with its sentence."""
    cuts = [match.span() for match in _SENTENCE.finditer(story)]
    starts = [0] + [end for _, end in cuts]
    ends = [start + (story[start] in "\"'") for start, _ in cuts] + [len(story)]
    return [
        " ".join(story[start:end].split()) for start, end in zip(starts, ends, strict=True) if story[start:end].strip()
    ]


def find_names(story: str) -> list[str]:
    """Find the names in a story, most frequent first.

    Candidates are words after "named" and capitalized words within sentences.
    """
    counts = Counter(_CAPITALIZED_WORD.findall(story)) + Counter(_INTRODUCED_NAME.findall(story) * 3)
    return [name for name, count in counts.most_common() if count >= 2 and name not in NOT_NAMES]


def find_subject(story: str, opening: str) -> str | None:
    """Find the thing or animal of the opening that occurs most often in the story."""
    opening_nouns = set(_find_nouns(opening))
    counts = Counter(noun for noun in _find_nouns(story) if noun in opening_nouns)
    return next((noun for noun, _ in counts.most_common(1)), None)


def _find_nouns(text: str) -> list[str]:
    words = re.findall(r"[a-z]+", text.lower())
    return [noun for word in words if (noun := word if word in SUBJECTS else word.removesuffix("s")) in SUBJECTS]


def build_request(story: str, opening: str, rng: random.Random) -> str:
    """Build a request that the opening answers: for its subject, its main character, both, or any
    story.
    """
    names = [name for name in find_names(story) if name in opening][:1]
    subject = find_subject(story, opening)
    topics = [*names]
    if subject:
        noun = f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}"
        topics += [noun, noun, *(f"{name} and {noun}" for name in names)]
    if not topics or rng.random() < 0.15:
        return rng.choice(GENERIC_REQUESTS)
    return rng.choice(TOPIC_REQUESTS).format(rng.choice(topics))


def split_story(story: str, rng: random.Random) -> list[str]:
    """Split a story into answers of about 35 to 65 words. Sentences stay complete."""
    answers, current = [], list[str]()
    limit = rng.randint(35, 65)
    for sentence in split_sentences(story):
        if current and sum(len(part.split()) for part in current) + len(sentence.split()) > limit:
            answers.append(" ".join(current))
            current = []
        current.append(sentence)
    return [*answers, " ".join(current)]


def build_conversation(story: str, rng: random.Random) -> list[Turn]:
    """Build a conversation that tells the complete story, sometimes with a question about its
    characters.
    """
    first, *rest = split_story(story, rng)
    turns = [(build_request(story, first, rng), first)]
    people = [name for name in find_names(story) if name in first][:2]
    if people and rng.random() < 0.4:
        turns.append((rng.choice(CHARACTER_QUESTIONS), f"{' and '.join(people)}."))
    for number, part in enumerate(rest, start=1):
        turns.append((rng.choice(ENDING_REQUESTS if number == len(rest) else CONTINUE_REQUESTS), part))
    return turns


def extract_dialogues(story: str) -> list[Turn]:
    """Extract each question of a character with the reply of another character close to it.

    Two quotations have different speakers if only white space separates them, or if a new sentence
    introduces the second.
    """
    quotes = list(_QUOTE.finditer(story))
    pairs = ((question, reply, story[question.end() : reply.start()]) for question, reply in pairwise(quotes))
    return [
        (question[1], re.sub(",$", ".", reply[1]))
        for question, reply, between in pairs
        if question[1].endswith("?") and reply[1][-1] in ".!," and len(between) < 160 and _OTHER_SPEAKER.search(between)
    ]


def read_small_talk(path: Path, rng: random.Random) -> list[list[Turn]]:
    """Read small talk: a conversation for each question with one of its answers, then pairs of
    them.
    """
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    turns = [(question, rng.choice(entry["answers"])) for entry in entries for question in entry["questions"]]
    rng.shuffle(turns)
    return [[turn] for turn in turns] + [list(pair) for pair in zip(turns[::2], turns[1::2], strict=False)]


def to_chat_row(turns: list[Turn], rng: random.Random) -> Row:
    """Convert turns to a chat row. One row in ten starts with a system message."""
    messages = [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}] if rng.random() < 0.1 else []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def build_rows(stories_path: Path, small_talk_path: Path, seed: int) -> tuple[list[Row], list[Row]]:
    """Build training rows, and validation rows from one story in twenty that is held out of
    training.
    """
    rng = random.Random(seed)
    stories = read_stories(stories_path)
    rng.shuffle(stories)
    held_out, training = stories[: len(stories) // 20], stories[len(stories) // 20 :]
    train = [build_conversation(story, rng) for story in training]
    train += [[turn] for story in training for turn in extract_dialogues(story)]
    train += read_small_talk(small_talk_path, rng) + read_small_talk(small_talk_path, rng)
    rng.shuffle(train)
    validation = [build_conversation(story, rng) for story in held_out]
    return [to_chat_row(turns, rng) for turns in train], [to_chat_row(turns, rng) for turns in validation]


def list_texts(rows: list[Row]) -> list[str]:
    """Return the content of all messages."""
    return [message["content"] for row in rows for message in row["messages"]]


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the rows as JSONL."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
