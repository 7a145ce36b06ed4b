"""The parts of ``make bench-training`` that decide what its figures mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import training
from benchmarks.trainer_comparison import count, ours, subprocesses
from benchmarks.trainer_comparison import rows as plain
from benchmarks.trainer_comparison.base import gpt2
from benchmarks.trainer_comparison.config import Outcome, Terms, outcome, turns
from benchmarks.trainer_comparison.figures import OURS, TITLES, Season
from benchmarks.trainer_comparison.shapes import SHAPES, VOCABULARY, Shape
from benchmarks.trainer_comparison.trl_search import RUNS, STEPS, Pilot, fastest
from tests.tiny import tiny_chat_base
from training.tasks import TASKS

TINY = Shape(16, 2, 2, 1, 24, rows=4, epochs=1, rounds=1, minutes=1, held_out=1)
ROWS = [
    {"question": f"How much is {number} + 1?", "answer": "Let us see: " * (number % 3) + f"#### {number + 1}"}
    for number in range(6)
]


def ran(seconds: float, *, targets: int = 30, loss: float = 2.0, dtype: str = "float32") -> Outcome:
    settings = {"dtype": dtype}
    counts = [(40, targets - 20), (60, 20)]
    return outcome([1.0, 1.0 + seconds], counts, [3.0, loss], settings).model_copy(update={"peak_bytes": 10**9})


def season(**changes: object) -> Season:
    speeds = {OURS: 1.0, "trl_default": 6.0, "trl_best": 4.0, "hf_trainer": 2.0}
    made = Season(
        shape=TINY,
        rank=2,
        lengths=[60, 40],
        targets=30,
        rounds=[{name: ran(seconds) for name, seconds in speeds.items()}],
        held_out={OURS: 2.02, "trl_default": 2.0, "trl_best": 2.5, "hf_trainer": 3.0},
        peak={"float32": 1e6, "bfloat16": 1e9},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def terms(tmp_path: Path) -> Terms:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Terms(base=tmp_path / "base", rows=rows, folder=tmp_path / "run", epochs=1, threads=1)


def test_useful_work_counted_by_hand() -> None:
    """Width 16, one of two heads for keys and values, two blocks; 3 + 2 tokens, 2 targets, rank 2."""
    linears = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 24
    adapters = 2 * (32 + 2 * 24 + 32 + 3 * 40)
    assert TINY.weights == 2 * linears
    assert TINY.adapter(2) == 2 * adapters
    blocks, attention = 4 * 2 * linears * 5, 6 * 2 * 16 * (9 + 4)
    assert TINY.flops([3, 2], 2, 2) == blocks + 6 * 2 * adapters * 5 + attention + 4 * VOCABULARY * 16 * 2


@pytest.mark.parametrize(("name", "millions"), [("20m", 20.5), ("135m", 135.1)])
def test_shapes_have_the_size_of_their_name(name: str, millions: float) -> None:
    shape = SHAPES[name]
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**shape.config))
    linears = sum(weight.numel() for key, weight in model.named_parameters() if "_proj" in key)
    assert linears == shape.weights
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_first_step_warms_up() -> None:
    whole = outcome([5.0, 6.0, 8.0], [(10, 1), (20, 2), (40, 4)], [3.0, 2.0, 1.0], {})
    assert (whole.seconds, whole.tokens, whole.speed) == (3.0, 60, 20.0)
    assert (whole.all_tokens, whole.targets, whole.final_loss) == (70, 7, 1.5)
    only = outcome([5.0], [(10, 1)], [3.0], {})
    assert (only.seconds, only.tokens) == (5.0, 10)


def test_figures_and_their_keys() -> None:
    figures = season().figures()
    assert list(figures)[:6] == [
        *("vs_trl_default", "vs_trl_best", "vs_hf_trainer", "memory_vs_trl", "loss_gap", "matmul_peak_share")
    ]
    assert [figures[f"vs_{name}"] for name in ("trl_default", "trl_best", "hf_trainer")] == [6.0, 4.0, 2.0]
    assert figures["loss_gap"] == 0.01
    # 60 tokens a second of ours, each a hundredth of the work of all rows.
    share = TINY.flops([60, 40], 30, 2) / 100 * 60 / 1e6
    assert figures["matmul_peak_share"] == pytest.approx(share, abs=1e-3)
    assert json.loads(json.dumps(season().details()))["contestants"].keys() == TITLES.keys()


def test_the_peak_is_that_of_our_dtype() -> None:
    rounds = [{name: ran(1.0, dtype="bfloat16") for name in TITLES}]
    assert season(rounds=rounds).matmul_peak_share < season().matmul_peak_share / 100


def test_other_targets_are_a_fault() -> None:
    assert season().faults() == []
    [round_] = season().rounds
    [told] = season(rounds=[{**round_, "trl_best": ran(4.0, targets=31)}]).faults()
    assert told == "round 1, trl_best: 100 tokens and 31 targets, not 100 and 30"


def test_the_pilot_finds_the_fastest(terms: Terms) -> None:
    asked: list[Terms] = []

    def run(terms: Terms) -> Outcome:
        asked.append(terms)
        settings = terms.settings
        step = 1.0 + 3.0 * settings["bf16"] + 0.4 * settings["gradient_checkpointing"]
        step -= 0.3 * ("padding_free" in settings)
        steps = 1 if terms.patience is not None and step > terms.patience else STEPS
        ends = [step * (number + 1) for number in range(steps)]
        return outcome(ends, [(100, 10)] * steps, [2.0] * steps, {})

    tried = list(Pilot(terms, [10, 20, 30], run).search())
    assert len(tried) == RUNS
    assert fastest(tried).settings == {
        **{"bf16": False, "gradient_checkpointing": False},
        **{"padding_free": True, "max_length": None},
    }
    assert [one.row["whole"] for one in tried] == [True, True, False, False, True, True, True]
    assert asked[-1].settings["max_length"] == 160
    assert len({one.folder for one in asked}) == RUNS


def test_our_child_by_its_own_lines(terms: Terms, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_chat_base(terms.base)
    ran = ours.run(terms.model_copy(update={"batch_size": 2}))
    count.main(terms.folder)
    counted = json.loads(capsys.readouterr().out)
    assert len(ran.losses) == 3
    assert ran.all_tokens == sum(counted["lengths"])
    assert 0 < counted["targets"] < ran.all_tokens
    assert 0 < ran.tokens < ran.all_tokens
    assert ran.settings["dtype"] in {"float32", "bfloat16"}
    assert ran.peak_bytes > 1e8
    assert (terms.folder / "result" / "adapter_config.json").is_file()


def test_a_process_that_fails_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"json\.tool ended with 2(.|\n)*No such file"):
        subprocesses.run("json.tool", "none", threads=1, log=tmp_path / "log")


@pytest.mark.skipif(not training.SHARED.exists(), reason="the data is not here")
def test_all_read_the_same_targets(terms: Terms) -> None:
    """The rows as our task encodes them, beside what PEFT and ``transformers`` are given."""
    tokenizer = gpt2(training.DATA.vocabulary)
    assert len(tokenizer) == VOCABULARY
    task = TASKS["chat"]
    mine = [task.row.model_validate({"messages": [*asked, *said]}) for asked, said in map(turns, ROWS)]
    for example, theirs in zip(task.encode(mine, tokenizer, 1024), plain.encoded(terms.rows, tokenizer), strict=True):
        assert list(example.ids) == theirs["input_ids"]
        assert [weight > 0 for weight in example.weights] == [label >= 0 for label in theirs["labels"]]
