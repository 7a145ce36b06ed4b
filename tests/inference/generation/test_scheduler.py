"""Scheduler: a sequence's output does not depend on its batch, and every sequence gets a final
output or error."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import Cache

from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.model_runner import ModelRunner
from inference.generation.sampling import SamplingParams
from inference.generation.scheduler import MAX_WAITING, Scheduler, SequenceOutput, SequenceState
from inference.protocol.errors import EngineError, EngineUnavailable
from tests.inference.generation.test_detokenizer import TOKENIZERS

TOKENIZER = TOKENIZERS["byte-level"]
END_TOKEN = TOKENIZER.eos_token_id
MAX_NUM_SEQS = 4


class ControllableModel:
    """Small random Llama whose steps a test can block, count and let fail."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        config = LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
        self.llama = LlamaForCausalLM(config).eval()
        self.unblocked = threading.Event()
        self.unblocked.set()
        self.batch_sizes: list[int] = []
        self.next_error: Exception | None = None
        self.broken_adapter = ""

    def __call__(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, adapters: Sequence[str]) -> Tensor:
        self.unblocked.wait()
        self.batch_sizes.append(len(ids))
        if self.next_error:
            error, self.next_error = self.next_error, None
            raise error
        out = self.llama(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
        logits: Tensor = out.logits[:, -1]
        if self.broken_adapter:
            logits[[name == self.broken_adapter for name in adapters]] = torch.nan
        return logits


@pytest.fixture
def model() -> ControllableModel:
    return ControllableModel()


@pytest.fixture
def scheduler(model: ControllableModel) -> Iterator[Scheduler]:
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), [END_TOKEN], MAX_NUM_SEQS, "test")
    yield scheduler
    model.unblocked.set()
    scheduler.close()


class TrackedSequence:
    """Sequence with a queue of its outputs."""

    def __init__(self, prompt: str, max_new_tokens: int = 12, adapter: str = "", stop: Sequence[str] = ()) -> None:
        self.outputs: queue.Queue[SequenceOutput] = queue.Queue()
        ids = TOKENIZER.encode(prompt)
        self.sequence = SequenceState(
            ids,
            adapter,
            SamplingParams(temperature=0),
            IncrementalDetokenizer(TOKENIZER, stop),
            max_new_tokens,
            self.outputs.put,
        )

    def result(self) -> tuple[str, str, int]:
        """Wait for the text, finish reason and number of tokens. Raises the sequence's error."""
        text = ""
        while True:
            output = self.outputs.get(timeout=30)
            if output.error:
                raise output.error
            text += output.delta.text
            if output.finish_reason:
                return text, output.finish_reason, output.num_tokens


def generate_greedily(model: ControllableModel, prompt: str, num_tokens: int) -> list[int]:
    """Generate tokens greedily without cache, batch and thread."""
    ids = TOKENIZER.encode(prompt)
    for _ in range(num_tokens):
        with torch.inference_mode():
            ids.append(int(model.llama(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-num_tokens:]


def wait_for_load(condition: str, scheduler: Scheduler, load: tuple[int, int]) -> None:
    for _ in range(500):
        if scheduler.queue_lengths == load:
            return
        time.sleep(0.01)
    raise AssertionError(f"{condition}: {scheduler.queue_lengths}")


PROMPTS = ["the", "quick brown fox jumps", "dog", "a", "over the lazy", "🎻", "naïve café", "b c", "Köln"]


def test_more_sequences_than_slots_each_get_their_own_output(model: ControllableModel, scheduler: Scheduler) -> None:
    sequences = [TrackedSequence(prompt, max_new_tokens=5 + 3 * index) for index, prompt in enumerate(PROMPTS)]
    scheduler.submit([tracked.sequence for tracked in sequences])
    for index, tracked in enumerate(sequences):
        _, finish_reason, num_tokens = tracked.result()
        assert (finish_reason, num_tokens) == ("length", 5 + 3 * index)
        assert tracked.sequence.output_tokens == generate_greedily(model, PROMPTS[index], 5 + 3 * index)
    assert max(model.batch_sizes) == MAX_NUM_SEQS


def test_a_new_sequence_joins_a_running_batch(model: ControllableModel, scheduler: Scheduler) -> None:
    first = TrackedSequence("the quick brown", max_new_tokens=200)
    scheduler.submit([first.sequence])
    first.outputs.get(timeout=30)
    second = TrackedSequence("dog", max_new_tokens=5)
    scheduler.submit([second.sequence])
    second.result()
    assert len(first.sequence.output_tokens) < 200, "the new sequence must not wait for the end of the first"
    assert second.sequence.output_tokens == generate_greedily(model, "dog", 5)
    first.result()
    assert first.sequence.output_tokens[:60] == generate_greedily(model, "the quick brown", 60)


def test_waiting_prompts_are_prefilled_as_one_batch(model: ControllableModel, scheduler: Scheduler) -> None:
    model.unblocked.clear()
    sequences = [TrackedSequence(prompt, max_new_tokens=3) for prompt in PROMPTS[:MAX_NUM_SEQS]]
    scheduler.submit([tracked.sequence for tracked in sequences])
    model.unblocked.set()
    for tracked in sequences:
        tracked.result()
    assert model.batch_sizes == [MAX_NUM_SEQS] * 3


def test_a_stop_token_ends_generation_and_is_counted(model: ControllableModel) -> None:
    generated = generate_greedily(model, "the", 6)
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), [generated[3]], MAX_NUM_SEQS, "test")
    tracked = TrackedSequence("the", max_new_tokens=50)
    scheduler.submit([tracked.sequence])
    text, finish_reason, num_tokens = tracked.result()
    scheduler.close()
    end = generated.index(generated[3])
    assert (finish_reason, num_tokens) == ("stop", end + 1)
    assert text == TOKENIZER.decode(generated[:end], skip_special_tokens=True)


def test_a_stop_string_ends_generation(model: ControllableModel, scheduler: Scheduler) -> None:
    full_text = TOKENIZER.decode(generate_greedily(model, "the", 30), skip_special_tokens=True)
    stop = full_text[8:10]
    tracked = TrackedSequence("the", max_new_tokens=30, stop=[stop])
    scheduler.submit([tracked.sequence])
    text, finish_reason, _ = tracked.result()
    assert finish_reason == "stop"
    assert text == full_text[: full_text.index(stop)]


def test_a_cancelled_sequence_leaves_within_a_step(model: ControllableModel, scheduler: Scheduler) -> None:
    cancelled, other = TrackedSequence("the", max_new_tokens=5000), TrackedSequence("dog", max_new_tokens=40)
    scheduler.submit([cancelled.sequence, other.sequence])
    cancelled.outputs.get(timeout=30)
    cancelled.sequence.cancelled = True
    num_tokens = len(cancelled.sequence.output_tokens)
    other.result()
    assert len(cancelled.sequence.output_tokens) <= num_tokens + 1
    assert other.sequence.output_tokens == generate_greedily(model, "dog", 40)
    wait_for_load("no sequence is running", scheduler, (0, 0))


def test_a_sequence_cancelled_while_waiting_never_runs(model: ControllableModel, scheduler: Scheduler) -> None:
    model.unblocked.clear()
    sequences = [TrackedSequence("the", max_new_tokens=2) for _ in range(MAX_NUM_SEQS + 1)]
    scheduler.submit([tracked.sequence for tracked in sequences[:MAX_NUM_SEQS]])
    wait_for_load("the first batch runs", scheduler, (MAX_NUM_SEQS, 0))
    scheduler.submit([sequences[MAX_NUM_SEQS].sequence])
    sequences[MAX_NUM_SEQS].sequence.cancelled = True
    model.unblocked.set()
    for tracked in sequences[:MAX_NUM_SEQS]:
        tracked.result()
    wait_for_load("no sequence is waiting", scheduler, (0, 0))
    assert sequences[MAX_NUM_SEQS].sequence.output_tokens == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError("shapes differ"), "internal_error"), (MemoryError(), "engine_overloaded")],
)
def test_a_failing_step_fails_its_sequences_and_the_next_ones_run(
    model: ControllableModel, scheduler: Scheduler, error: Exception, code: str
) -> None:
    model.next_error = error
    sequences = [TrackedSequence("the"), TrackedSequence("dog")]
    scheduler.submit([tracked.sequence for tracked in sequences])
    for tracked in sequences:
        with pytest.raises(EngineError) as caught:
            tracked.result()
        assert caught.value.code == code
    again = TrackedSequence("the")
    scheduler.submit([again.sequence])
    again.result()
    assert again.sequence.output_tokens == generate_greedily(model, "the", 12)


def test_non_finite_logits_fail_their_own_sequences_only(model: ControllableModel, scheduler: Scheduler) -> None:
    model.broken_adapter = "bad"
    valid, invalid = TrackedSequence("dog"), TrackedSequence("the", adapter="bad")
    scheduler.submit([invalid.sequence, valid.sequence])
    with pytest.raises(EngineError) as caught:
        invalid.result()
    assert caught.value.code == "model_unusable"
    valid.result()
    assert valid.sequence.output_tokens == generate_greedily(model, "dog", 12)


def test_too_many_sequences_are_rejected(model: ControllableModel, scheduler: Scheduler) -> None:
    model.unblocked.clear()
    sequences = [TrackedSequence("a", max_new_tokens=1) for _ in range(MAX_NUM_SEQS)]
    scheduler.submit([tracked.sequence for tracked in sequences])
    wait_for_load("the first batch runs", scheduler, (MAX_NUM_SEQS, 0))
    scheduler.submit([TrackedSequence("a", max_new_tokens=1).sequence for _ in range(MAX_WAITING)])
    with pytest.raises(EngineUnavailable) as caught:
        scheduler.submit([TrackedSequence("a").sequence])
    assert caught.value.status == 503


def test_no_step_runs_while_the_model_is_changed(model: ControllableModel, scheduler: Scheduler) -> None:
    tracked = TrackedSequence("the", max_new_tokens=2000)
    scheduler.submit([tracked.sequence])
    tracked.outputs.get(timeout=30)
    for _ in range(5):
        with scheduler.pause():
            steps = len(model.batch_sizes)
            time.sleep(0.05)
            assert len(model.batch_sizes) == steps
    tracked.sequence.cancelled = True


def test_closing_fails_all_unfinished_sequences(model: ControllableModel) -> None:
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), [END_TOKEN], MAX_NUM_SEQS, "test")
    sequences = [TrackedSequence("the", max_new_tokens=100_000) for _ in range(MAX_NUM_SEQS + 2)]
    scheduler.submit([tracked.sequence for tracked in sequences])
    sequences[0].outputs.get(timeout=30)
    scheduler.close()
    for tracked in sequences:
        with pytest.raises(EngineUnavailable):
            tracked.result()
    with pytest.raises(EngineUnavailable):
        scheduler.submit([TrackedSequence("the").sequence])
