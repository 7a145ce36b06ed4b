"""One thread, many rows: what a row gives does not depend on who runs beside it, and everyone hears how it ended."""

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
    """A small random Llama whose steps can be held up, counted and made to fail."""

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
    """A row and what came of it."""

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
        """Text, finish reason and number of tokens. Raises the row's error."""
        text = ""
        while True:
            update = self.outputs.get(timeout=30)
            if update.error:
                raise update.error
            text += update.delta.text
            if update.finish_reason:
                return text, update.finish_reason, update.num_tokens


def generate_greedily(model: ControllableModel, prompt: str, num_tokens: int) -> list[int]:
    """Greedy tokens without cache, batch or thread."""
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
    asked = [TrackedSequence(prompt, max_new_tokens=5 + 3 * at) for at, prompt in enumerate(PROMPTS)]
    scheduler.submit([one.sequence for one in asked])
    for at, one in enumerate(asked):
        _, finish, tokens = one.result()
        assert (finish, tokens) == ("length", 5 + 3 * at)
        assert one.sequence.output_tokens == generate_greedily(model, PROMPTS[at], 5 + 3 * at)
    assert max(model.batch_sizes) == MAX_NUM_SEQS


def test_a_newcomer_joins_a_running_batch(model: ControllableModel, scheduler: Scheduler) -> None:
    first = TrackedSequence("the quick brown", max_new_tokens=200)
    scheduler.submit([first.sequence])
    first.outputs.get(timeout=30)
    second = TrackedSequence("dog", max_new_tokens=5)
    scheduler.submit([second.sequence])
    second.result()
    assert len(first.sequence.output_tokens) < 200, "the newcomer did not wait for the first to end"
    assert second.sequence.output_tokens == generate_greedily(model, "dog", 5)
    first.result()
    assert first.sequence.output_tokens[:60] == generate_greedily(model, "the quick brown", 60)


def test_prompts_that_wait_together_are_one_batch(model: ControllableModel, scheduler: Scheduler) -> None:
    model.unblocked.clear()
    asked = [TrackedSequence(prompt, max_new_tokens=3) for prompt in PROMPTS[:MAX_NUM_SEQS]]
    scheduler.submit([one.sequence for one in asked])
    model.unblocked.set()
    for one in asked:
        one.result()
    assert model.batch_sizes == [MAX_NUM_SEQS] * 3


def test_the_end_token_ends_the_answer_and_is_counted(model: ControllableModel) -> None:
    made = generate_greedily(model, "the", 6)
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), [made[3]], MAX_NUM_SEQS, "test")
    asked = TrackedSequence("the", max_new_tokens=50)
    scheduler.submit([asked.sequence])
    text, finish, tokens = asked.result()
    scheduler.close()
    ends = made.index(made[3])
    assert (finish, tokens) == ("stop", ends + 1)
    assert text == TOKENIZER.decode(made[:ends], skip_special_tokens=True)


def test_a_stop_string_ends_the_answer(model: ControllableModel, scheduler: Scheduler) -> None:
    whole = TOKENIZER.decode(generate_greedily(model, "the", 30), skip_special_tokens=True)
    stop = whole[8:10]
    asked = TrackedSequence("the", max_new_tokens=30, stop=[stop])
    scheduler.submit([asked.sequence])
    text, finish, _ = asked.result()
    assert finish == "stop"
    assert text == whole[: whole.index(stop)]


def test_a_cancelled_sequence_leaves_within_a_step(model: ControllableModel, scheduler: Scheduler) -> None:
    gone, stays = TrackedSequence("the", max_new_tokens=5000), TrackedSequence("dog", max_new_tokens=40)
    scheduler.submit([gone.sequence, stays.sequence])
    gone.outputs.get(timeout=30)
    gone.sequence.cancelled = True
    made = len(gone.sequence.output_tokens)
    stays.result()
    assert len(gone.sequence.output_tokens) <= made + 1
    assert stays.sequence.output_tokens == generate_greedily(model, "dog", 40)
    wait_for_load("nothing runs", scheduler, (0, 0))


def test_a_sequence_cancelled_while_waiting_never_runs(model: ControllableModel, scheduler: Scheduler) -> None:
    model.unblocked.clear()
    asked = [TrackedSequence("the", max_new_tokens=2) for _ in range(MAX_NUM_SEQS + 1)]
    scheduler.submit([one.sequence for one in asked[:MAX_NUM_SEQS]])
    wait_for_load("the first batch runs", scheduler, (MAX_NUM_SEQS, 0))
    scheduler.submit([asked[MAX_NUM_SEQS].sequence])
    asked[MAX_NUM_SEQS].sequence.cancelled = True
    model.unblocked.set()
    for one in asked[:MAX_NUM_SEQS]:
        one.result()
    wait_for_load("nothing waits", scheduler, (0, 0))
    assert asked[MAX_NUM_SEQS].sequence.output_tokens == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError("shapes differ"), "internal_error"), (MemoryError(), "engine_overloaded")],
)
def test_a_failing_step_fails_its_sequences_and_the_next_ones_run(
    model: ControllableModel, scheduler: Scheduler, error: Exception, code: str
) -> None:
    model.next_error = error
    asked = [TrackedSequence("the"), TrackedSequence("dog")]
    scheduler.submit([one.sequence for one in asked])
    for one in asked:
        with pytest.raises(EngineError) as caught:
            one.result()
        assert caught.value.code == code
    again = TrackedSequence("the")
    scheduler.submit([again.sequence])
    again.result()
    assert again.sequence.output_tokens == generate_greedily(model, "the", 12)


def test_non_finite_logits_fail_their_own_sequences_only(model: ControllableModel, scheduler: Scheduler) -> None:
    model.broken_adapter = "bad"
    good, bad = TrackedSequence("dog"), TrackedSequence("the", adapter="bad")
    scheduler.submit([bad.sequence, good.sequence])
    with pytest.raises(EngineError) as caught:
        bad.result()
    assert caught.value.code == "model_unusable"
    good.result()
    assert good.sequence.output_tokens == generate_greedily(model, "dog", 12)


def test_too_many_sequences_are_rejected(model: ControllableModel, scheduler: Scheduler) -> None:
    model.unblocked.clear()
    asked = [TrackedSequence("a", max_new_tokens=1) for _ in range(MAX_NUM_SEQS)]
    scheduler.submit([one.sequence for one in asked])
    wait_for_load("the first batch runs", scheduler, (MAX_NUM_SEQS, 0))
    scheduler.submit([TrackedSequence("a", max_new_tokens=1).sequence for _ in range(MAX_WAITING)])
    with pytest.raises(EngineUnavailable) as caught:
        scheduler.submit([TrackedSequence("a").sequence])
    assert caught.value.status == 503


def test_no_step_runs_while_the_model_is_changed(model: ControllableModel, scheduler: Scheduler) -> None:
    asked = TrackedSequence("the", max_new_tokens=2000)
    scheduler.submit([asked.sequence])
    asked.outputs.get(timeout=30)
    for _ in range(5):
        with scheduler.pause():
            steps = len(model.batch_sizes)
            time.sleep(0.05)
            assert len(model.batch_sizes) == steps
    asked.sequence.cancelled = True


def test_closing_fails_what_is_still_there(model: ControllableModel) -> None:
    scheduler = Scheduler(ModelRunner(model, torch.device("cpu")), [END_TOKEN], MAX_NUM_SEQS, "test")
    asked = [TrackedSequence("the", max_new_tokens=100_000) for _ in range(MAX_NUM_SEQS + 2)]
    scheduler.submit([one.sequence for one in asked])
    asked[0].outputs.get(timeout=30)
    scheduler.close()
    for one in asked:
        with pytest.raises(EngineUnavailable):
            one.result()
    with pytest.raises(EngineUnavailable):
        scheduler.submit([TrackedSequence("the").sequence])
