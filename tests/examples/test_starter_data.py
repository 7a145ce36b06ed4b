"""Chat rows derived from stories."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from examples import starter_data
from training.data.dataset import DatasetReader
from training.data.encoding import RowEncoder
from training.progress import ignore_progress
from training.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
SMALL_TALK = ROOT / "examples" / "data" / "starter_talk.jsonl"
TINYSTORIES = ROOT.parent / "shared" / "data" / "tinystories" / "tinystories_sample.txt"

STORY = """One day, a small dog named Rex went to the pond. He saw a frog on a leaf. "Do you want to play?" asked Rex. \
The frog looked up and said, "No, I am too wet to play today!"
Rex was sad. He sat down near the pond. Then the frog felt sorry for Rex. "Can you swim?" she asked. \
"I can swim too." So Rex and the frog swam all day long. When the moon came out, Rex ran home to his bed."""


def test_sentences_keep_their_quotation_marks_and_all_words() -> None:
    sentences = starter_data.split_sentences(STORY)
    assert '"Do you want to play?" asked Rex.' in sentences
    assert 'The frog looked up and said, "No, I am too wet to play today!"' in sentences
    assert " ".join(sentences).split() == STORY.split()


@pytest.mark.parametrize("seed", range(5))
def test_a_conversation_tells_the_whole_story_once_in_order(seed: int) -> None:
    turns = starter_data.build_conversation(STORY, random.Random(seed))
    answers = [answer for question, answer in turns if question not in starter_data.CHARACTER_QUESTIONS]
    assert len(answers) > 1
    assert " ".join(answers).split() == STORY.split()


def test_a_request_names_a_subject_of_the_opening() -> None:
    opening = starter_data.split_sentences(STORY)[0]
    requests = {starter_data.build_request(STORY, opening, random.Random(seed)) for seed in range(200)}
    topic_requests = {request for request in requests if request not in starter_data.GENERIC_REQUESTS}
    assert "Tell me a story about a dog." in topic_requests
    assert "Tell me a story about Rex." in topic_requests
    assert all("dog" in request or "Rex" in request for request in topic_requests)
    assert not any("frog" in request for request in topic_requests)


def test_names_are_not_words_that_begin_sentences() -> None:
    assert starter_data.find_names(STORY) == ["Rex"]


def test_a_dialogue_has_two_speakers() -> None:
    """Rex asks and the frog answers.

    The frog's next sentence is not an answer to her own question.
    """
    assert starter_data.extract_dialogues(STORY) == [("Do you want to play?", "No, I am too wet to play today!")]


def write_stories(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "stories.txt"
    stories = [STORY.replace("Rex", f"Rex{chr(97 + i % 26)}{chr(97 + i // 26)}") for i in range(count)]
    path.write_text(
        "\n<|endoftext|>\n".join([*stories, stories[0], "Too short.", "One day, the file ends in the middle of a"])
    )
    return path


def test_truncated_and_repeated_stories_are_left_out(tmp_path: Path) -> None:
    assert len(starter_data.read_stories(write_stories(tmp_path, 30))) == 30


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path: Path) -> None:
    path = write_stories(tmp_path, 30)
    assert starter_data.build_rows(path, SMALL_TALK, 1) == starter_data.build_rows(path, SMALL_TALK, 1)
    assert starter_data.build_rows(path, SMALL_TALK, 1) != starter_data.build_rows(path, SMALL_TALK, 2)


def test_no_held_out_story_is_trained_on(tmp_path: Path) -> None:
    train, validation = starter_data.build_rows(write_stories(tmp_path, 60), SMALL_TALK, 1)
    assert len(validation) == 3
    openings = {row["messages"][-1]["content"] for row in validation}
    assert not openings & set(starter_data.list_texts(train))


def test_training_accepts_the_derived_rows(tmp_path: Path) -> None:
    if not TINYSTORIES.exists():
        pytest.skip("the TinyStories sample is missing")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "starter")
    train, validation = starter_data.build_rows(TINYSTORIES, SMALL_TALK, 1)
    for name, rows in (("train", train[::20]), ("validation", validation)):
        starter_data.write_rows(tmp_path / f"{name}.jsonl", rows)
        data = DatasetReader(RowEncoder(TASKS["chat"], tokenizer, {}, 512), ignore_progress).read(
            tmp_path / f"{name}.jsonl", "training_file"
        )
        assert not data.errors
        assert len(data.examples) == len(rows)
        assert data.truncated_rows < len(rows) / 20
