"""Data, baselines and metrics of ``make bench-tasks``."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from benchmarks import memory
from benchmarks.bases import create_image_base, create_translation_base
from benchmarks.tasks import BENCHMARKS, entities, images, questions, translation
from benchmarks.tasks.benchmark import DATASETS, DataSplits, TaskBenchmark, TrainedModel
from benchmarks.tasks.model_requests import spearman
from storage.registry import Registry
from training.models import base_model
from training.spec import Hyperparameters
from training.tasks import TASKS, TASKS_BY_METHOD
from training.tasks.support.entities import score_entities

NO_MODEL: TrainedModel = None  # type: ignore[assignment]
"""Placeholder for baselines that send no requests to a model."""
ROWS = [
    {"tokens": ["Ann", "Lee", "saw", "Rome"], "tags": ["B-person", "I-person", "O", "B-location"]},
    {"tokens": ["Rome", "Ann", "Lee", "Ann"], "tags": ["B-location", "B-person", "B-person", "O"]},
]


def test_every_task_has_a_benchmark() -> None:
    assert {benchmark.task for benchmark in BENCHMARKS.values()} | {"text-classification"} == TASKS.keys()
    assert {benchmark.method for benchmark in BENCHMARKS.values()} == TASKS_BY_METHOD.keys()


def test_better_than_every_baseline() -> None:
    benchmark, baselines = BENCHMARKS["text-regression"], {"one": {"pearson": 0.2}, "other": {"pearson": 0.4}}
    assert benchmark.beats_baselines({"pearson": 0.5}, baselines)
    assert not benchmark.beats_baselines({"pearson": 0.3}, baselines)
    assert not benchmark.beats_baselines({"pearson": 0.4}, baselines)
    assert replace(benchmark, lower_is_better=True).beats_baselines({"pearson": 0.1}, baselines)


def test_rank_correlation_with_ties_matches_scipy() -> None:
    rng = random.Random(3)
    left, right = ([float(rng.randrange(6)) for _ in range(40)] for _ in range(2))
    assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic)


def test_entities_are_found_by_their_characters() -> None:
    first, second = (list(entities.extract_spans(row)) for row in ROWS)
    assert first == [("person", 0, 7), ("location", 12, 16)]
    assert second == [("location", 0, 4), ("person", 5, 8), ("person", 9, 12)]


def test_the_dictionary_of_entities() -> None:
    """Look up the first row's entities in the second: Rome is correct; "Ann Lee" is two people
    there.
    """
    metrics = entities.BENCHMARK.evaluate_baselines(NO_MODEL, DataSplits(ROWS[:1], ROWS[1:]))[
        "entities of the training part, looked up"
    ]
    assert metrics["entity_precision"] == 1 / 2
    assert metrics["entity_recall"] == 1 / 3
    tags = ["B-location", "B-person", "I-person", "O"]
    assert metrics["entity_f1"] == pytest.approx(score_entities([ROWS[1]["tags"]], [tags])["entity_f1"])


def test_the_most_similar_training_source() -> None:
    rows = [{"source": "The dog ran.", "target": "A"}, {"source": "The cat slept.", "target": "B"}]
    held_out = [{"source": "A cat ran? No, the cat slept!", "target": "B"}, {"source": "Fish", "target": "A"}]
    assert list(translation._find_nearest_translations(DataSplits(rows, held_out))) == ["B", "A"]


def test_the_nearest_picture(tmp_path: Path) -> None:
    from PIL import Image

    rows = []
    for name, label, shade in [("a", "dark", 0), ("b", "light", 250), ("c", "dark", 60), ("d", "light", 200)]:
        Image.new("RGB", (4, 4), (shade, shade, shade)).save(tmp_path / f"{name}.png")
        rows.append({"image": str(tmp_path / f"{name}.png"), "label": label})
    baselines = images.BENCHMARK.evaluate_baselines(NO_MODEL, DataSplits(rows[:2], rows[2:]))
    assert [metrics["accuracy"] for metrics in baselines.values()] == [1.0, 0.5]


def test_questions_ask_for_kinds_that_occur_once() -> None:
    [person, place] = questions._build_questions(ROWS[0])
    assert person["answers"] == [{"text": "Ann Lee", "start": 0}]
    assert place["question"] == "Which place is mentioned?"
    assert [row["question"] for row in questions._build_questions(ROWS[1])] == ["Which place is mentioned?"]


def test_random_bases_are_listed_and_described(tmp_path: Path) -> None:
    texts = ["The dog ran home.", "Hunden sprang hem."] * 20
    for name, entry in {
        "bart": create_translation_base(tmp_path / "bart", texts),
        "resnet": create_image_base(tmp_path / "resnet"),
    }.items():
        entry.add_to_registry(tmp_path, name)
        listed = Registry([tmp_path / "models.toml"], tmp_path).get(name)
        assert listed
        description = base_model.read_base_model_info(listed.require_location(), name, TASKS[listed.tasks[0]])
        assert description.width == 256
        assert Hyperparameters(max_length=description.context_length).max_length == description.context_length
        # A checkpoint also has buffers, such as running means, and an untrained bias.
        assert listed.parameters == pytest.approx(description.parameters, rel=0.01)
    assert "random initialization" in (tmp_path / "models.toml").read_text()


def test_the_memory_of_a_process() -> None:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert memory._read_peak_rss(os.getpid()) >= resident // 2 > 0


@pytest.mark.skipif(not DATASETS.exists(), reason="the data sets are missing")
@pytest.mark.parametrize("name", sorted(BENCHMARKS.keys() - {"image-classification"}))
def test_rows_are_what_the_task_reads_and_none_is_held_out_twice(name: str) -> None:
    benchmark: TaskBenchmark = BENCHMARKS[name]
    data = benchmark.load_data()
    task = TASKS_BY_METHOD[benchmark.method][benchmark.task]
    for row in data.training[:50]:
        assert not list(task.check_row(task.row_schema.model_validate(row)))
    keys: Mapping[str, str] = {"seq2seq": "source", "completion": "text"}
    if name in keys:
        training_keys = {row[keys[name]] for row in data.training}
        assert not training_keys & {row[keys[name]] for row in data.held_out}
    assert len(data.held_out) >= 49
