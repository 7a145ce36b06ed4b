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

from inference.generation.detokenizer import TextStream
from inference.generation.model_runner import Decoder
from inference.generation.sampling import Sampling
from inference.generation.scheduler import WAITING, Progress, Row, Scheduler
from inference.protocol.errors import EngineError, EngineUnavailable
from tests.inference.generation.test_detokenizer import TOKENIZERS

TOKENIZER = TOKENIZERS["byte-level"]
END = TOKENIZER.eos_token_id
SLOTS = 4


class Model:
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
        self.go = threading.Event()
        self.go.set()
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.broken_adapter = ""

    def __call__(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache, adapters: Sequence[str]) -> Tensor:
        self.go.wait()
        self.batches.append(len(ids))
        if self.error:
            error, self.error = self.error, None
            raise error
        out = self.llama(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
        logits: Tensor = out.logits[:, -1]
        if self.broken_adapter:
            logits[[name == self.broken_adapter for name in adapters]] = torch.nan
        return logits


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def scheduler(model: Model) -> Iterator[Scheduler]:
    scheduler = Scheduler(Decoder(model, torch.device("cpu")), [END], SLOTS, "test")
    yield scheduler
    model.go.set()
    scheduler.close()


class Asked:
    """A row and what came of it."""

    def __init__(self, prompt: str, limit: int = 12, adapter: str = "", stop: Sequence[str] = ()) -> None:
        self.updates: queue.Queue[Progress] = queue.Queue()
        ids = TOKENIZER.encode(prompt)
        self.row = Row(ids, adapter, Sampling(temperature=0), TextStream(TOKENIZER, stop), limit, self.updates.put)

    def result(self) -> tuple[str, str, int]:
        """Text, finish reason and number of tokens. Raises the row's error."""
        text = ""
        while True:
            update = self.updates.get(timeout=30)
            if update.error:
                raise update.error
            text += update.piece.text
            if update.finish:
                return text, update.finish, update.tokens


def alone(model: Model, prompt: str, limit: int) -> list[int]:
    """Greedy tokens without cache, batch or thread."""
    ids = TOKENIZER.encode(prompt)
    for _ in range(limit):
        with torch.inference_mode():
            ids.append(int(model.llama(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-limit:]


def until(condition: str, scheduler: Scheduler, load: tuple[int, int]) -> None:
    for _ in range(500):
        if scheduler.load == load:
            return
        time.sleep(0.01)
    raise AssertionError(f"{condition}: {scheduler.load}")


PROMPTS = ["the", "quick brown fox jumps", "dog", "a", "over the lazy", "🎻", "naïve café", "b c", "Köln"]


def test_more_rows_than_slots_each_get_their_own_answer(model: Model, scheduler: Scheduler) -> None:
    asked = [Asked(prompt, limit=5 + 3 * at) for at, prompt in enumerate(PROMPTS)]
    scheduler.submit([one.row for one in asked])
    for at, one in enumerate(asked):
        _, finish, tokens = one.result()
        assert (finish, tokens) == ("length", 5 + 3 * at)
        assert one.row.tokens == alone(model, PROMPTS[at], 5 + 3 * at)
    assert max(model.batches) == SLOTS


def test_a_newcomer_joins_a_running_batch(model: Model, scheduler: Scheduler) -> None:
    first = Asked("the quick brown", limit=200)
    scheduler.submit([first.row])
    first.updates.get(timeout=30)
    second = Asked("dog", limit=5)
    scheduler.submit([second.row])
    second.result()
    assert len(first.row.tokens) < 200, "the newcomer did not wait for the first to end"
    assert second.row.tokens == alone(model, "dog", 5)
    first.result()
    assert first.row.tokens[:60] == alone(model, "the quick brown", 60)


def test_prompts_that_wait_together_are_one_batch(model: Model, scheduler: Scheduler) -> None:
    model.go.clear()
    asked = [Asked(prompt, limit=3) for prompt in PROMPTS[:SLOTS]]
    scheduler.submit([one.row for one in asked])
    model.go.set()
    for one in asked:
        one.result()
    assert model.batches == [SLOTS] * 3


def test_the_end_token_ends_the_answer_and_is_counted(model: Model) -> None:
    made = alone(model, "the", 6)
    scheduler = Scheduler(Decoder(model, torch.device("cpu")), [made[3]], SLOTS, "test")
    asked = Asked("the", limit=50)
    scheduler.submit([asked.row])
    text, finish, tokens = asked.result()
    scheduler.close()
    ends = made.index(made[3])
    assert (finish, tokens) == ("stop", ends + 1)
    assert text == TOKENIZER.decode(made[:ends], skip_special_tokens=True)


def test_a_stop_string_ends_the_answer(model: Model, scheduler: Scheduler) -> None:
    whole = TOKENIZER.decode(alone(model, "the", 30), skip_special_tokens=True)
    stop = whole[8:10]
    asked = Asked("the", limit=30, stop=[stop])
    scheduler.submit([asked.row])
    text, finish, _ = asked.result()
    assert finish == "stop"
    assert text == whole[: whole.index(stop)]


def test_a_cancelled_row_leaves_within_a_step(model: Model, scheduler: Scheduler) -> None:
    gone, stays = Asked("the", limit=5000), Asked("dog", limit=40)
    scheduler.submit([gone.row, stays.row])
    gone.updates.get(timeout=30)
    gone.row.cancelled = True
    made = len(gone.row.tokens)
    stays.result()
    assert len(gone.row.tokens) <= made + 1
    assert stays.row.tokens == alone(model, "dog", 40)
    until("nothing runs", scheduler, (0, 0))


def test_a_row_cancelled_while_waiting_never_runs(model: Model, scheduler: Scheduler) -> None:
    model.go.clear()
    asked = [Asked("the", limit=2) for _ in range(SLOTS + 1)]
    scheduler.submit([one.row for one in asked[:SLOTS]])
    until("the first batch runs", scheduler, (SLOTS, 0))
    scheduler.submit([asked[SLOTS].row])
    asked[SLOTS].row.cancelled = True
    model.go.set()
    for one in asked[:SLOTS]:
        one.result()
    until("nothing waits", scheduler, (0, 0))
    assert asked[SLOTS].row.tokens == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError("shapes differ"), "internal_error"), (MemoryError(), "engine_overloaded")],
)
def test_a_failing_step_is_told_to_its_rows_and_the_next_rows_run(
    model: Model, scheduler: Scheduler, error: Exception, code: str
) -> None:
    model.error = error
    asked = [Asked("the"), Asked("dog")]
    scheduler.submit([one.row for one in asked])
    for one in asked:
        with pytest.raises(EngineError) as caught:
            one.result()
        assert caught.value.code == code
    again = Asked("the")
    scheduler.submit([again.row])
    again.result()
    assert again.row.tokens == alone(model, "the", 12)


def test_a_model_that_gives_no_numbers_fails_its_own_rows_only(model: Model, scheduler: Scheduler) -> None:
    model.broken_adapter = "bad"
    good, bad = Asked("dog"), Asked("the", adapter="bad")
    scheduler.submit([bad.row, good.row])
    with pytest.raises(EngineError) as caught:
        bad.result()
    assert caught.value.code == "model_unusable"
    good.result()
    assert good.row.tokens == alone(model, "dog", 12)


def test_too_many_rows_are_turned_away(model: Model, scheduler: Scheduler) -> None:
    model.go.clear()
    asked = [Asked("a", limit=1) for _ in range(SLOTS)]
    scheduler.submit([one.row for one in asked])
    until("the first batch runs", scheduler, (SLOTS, 0))
    scheduler.submit([Asked("a", limit=1).row for _ in range(WAITING)])
    with pytest.raises(EngineUnavailable) as caught:
        scheduler.submit([Asked("a").row])
    assert caught.value.status == 503


def test_no_step_runs_while_the_model_is_changed(model: Model, scheduler: Scheduler) -> None:
    asked = Asked("the", limit=2000)
    scheduler.submit([asked.row])
    asked.updates.get(timeout=30)
    for _ in range(5):
        with scheduler.paused():
            steps = len(model.batches)
            time.sleep(0.05)
            assert len(model.batches) == steps
    asked.row.cancelled = True


def test_closing_fails_what_is_still_there(model: Model) -> None:
    scheduler = Scheduler(Decoder(model, torch.device("cpu")), [END], SLOTS, "test")
    asked = [Asked("the", limit=100_000) for _ in range(SLOTS + 2)]
    scheduler.submit([one.row for one in asked])
    asked[0].updates.get(timeout=30)
    scheduler.close()
    for one in asked:
        with pytest.raises(EngineUnavailable):
            one.result()
    with pytest.raises(EngineUnavailable):
        scheduler.submit([Asked("the").row])
