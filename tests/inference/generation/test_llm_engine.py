"""LLM engine: each sequence of a batch that mixes adapters has the numbers of transformers and PEFT
for that sequence alone, in both precisions and on a GPU if there is one."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.llm_engine import BASE_ADAPTER, LLMEngine
from inference.generation.sampling import SamplingParams
from inference.generation.scheduler import SequenceOutput, SequenceState
from tests.devices import DEVICE
from tests.tiny import create_tiny_chat_base
from training.artifacts import serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning"),
]

NUM_ADAPTERS = 5
NEW_TOKENS = 12
PROMPTS = ["a", "What is your color?", "Tell me of the sea. " * 4, "Hi"]
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.03}
"""Share of the largest log-probability. bfloat16 rounds about 30 results of these two blocks in
sequence, each by at most 0.4 %; independent errors add up to their root."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_tiny_chat_base(tmp_path_factory.mktemp("bases") / "chat")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, base: Path) -> list[Path]:
    """Folders of random adapters of several ranks, strong enough to change what is generated."""
    folders = []
    for number in range(NUM_ADAPTERS):
        torch.manual_seed(number)
        config = LoraConfig(r=2 + number, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.1)
        folders.append(tmp_path_factory.mktemp("adapters") / str(number))
        model.save_pretrained(folders[-1])
    return folders


@pytest.fixture(scope="module", params=TOLERANCES, ids=["float32", "bfloat16"])
def llm_engine(request: pytest.FixtureRequest, base: Path) -> Iterator[LLMEngine]:
    served = serving.load(base, None, "chat", request.param, DEVICE.type)
    engine = LLMEngine(served, 256, 16, "test", emit_outputs)
    yield engine
    engine.scheduler.close()


def emit_outputs(outputs: list[tuple[SequenceState, SequenceOutput]]) -> None:
    for sequence, output in outputs:
        sequence.emit(output)


class Generation:
    """Sequence with its outputs."""

    def __init__(self, engine: LLMEngine, prompt: str, adapter: str, params: SamplingParams) -> None:
        self._outputs: queue.Queue[SequenceOutput] = queue.Queue()
        ids = engine.tokenizer(prompt)["input_ids"]
        detokenizer = IncrementalDetokenizer(engine.tokenizer, ())
        self.sequence = SequenceState(ids, adapter, params, detokenizer, NEW_TOKENS, self._outputs.put)
        self.logprobs: list[float] = []

    def wait(self) -> None:
        output = None
        while output is None or not output.is_final:
            output = self._outputs.get(timeout=60)
            assert output.error is None
            self.logprobs += [record.token_logprob.logprob for record in output.delta.records]


def generate(engine: LLMEngine, requests: list[tuple[str, str, SamplingParams]]) -> list[Generation]:
    generations = [Generation(engine, *request) for request in requests]
    engine.scheduler.submit([generation.sequence for generation in generations])
    for generation in generations:
        generation.wait()
    return generations


@torch.inference_mode()
def compute_reference_logprobs(model: Any, sequence: SequenceState) -> torch.Tensor:
    """Return (N, V): log-probabilities at the N output tokens of the sequence alone, no cache."""
    ids = torch.tensor([sequence.prompt + sequence.output_tokens], device=DEVICE)
    logits_TV: torch.Tensor = model(input_ids=ids).logits[0].float()
    return logits_TV.log_softmax(-1)[len(sequence.prompt) - 1 : -1]


def test_every_sequence_of_a_mixed_batch_has_pefts_numbers(
    llm_engine: LLMEngine, base: Path, adapters: list[Path]
) -> None:
    dtype = llm_engine.served_model.model.dtype
    folders = {BASE_ADAPTER: None, **{llm_engine.load_adapter(folder): folder for folder in adapters}}
    params = SamplingParams(temperature=0, logprobs=1)
    requests = [(prompt, name, params) for prompt in PROMPTS for name in folders]
    generations = iter(generate(llm_engine, requests))
    outputs = set()
    stock_models = {name: AutoModelForCausalLM.from_pretrained(base, dtype=dtype).to(DEVICE).eval() for name in folders}
    for name, folder in folders.items():
        if folder:
            stock_models[name] = PeftModel.from_pretrained(stock_models[name], folder).eval()
    for _, name, _ in requests:
        generation = next(generations)
        logprobs_NV = compute_reference_logprobs(stock_models[name], generation.sequence)
        chosen = logprobs_NV[range(len(logprobs_NV)), generation.sequence.output_tokens]
        atol = TOLERANCES[dtype] * float(logprobs_NV.abs().max())
        # The last token may be a stop token, which has no text and no record.
        count = len(generation.logprobs)
        assert generation.logprobs == pytest.approx(chosen[:count].tolist(), abs=atol)
        assert count >= len(chosen) - 1
        # The chosen token is the likeliest one, or rounding decided between two.
        torch.testing.assert_close(chosen, logprobs_NV.amax(-1), rtol=0, atol=2 * atol)
        outputs.add((generation.sequence.prompt[0], name, *generation.sequence.output_tokens))
    assert len(outputs) > len(PROMPTS), "equal outputs of different adapters would prove nothing"
    for name in folders.keys() - {BASE_ADAPTER}:
        llm_engine.unload_adapter(name)


@pytest.mark.parametrize("llm_engine", [torch.float32], indirect=True, ids=["float32"])
def test_a_seeded_sequence_draws_the_same_tokens_alone_and_in_a_batch(
    llm_engine: LLMEngine, adapters: list[Path]
) -> None:
    name = llm_engine.load_adapter(adapters[0])
    requests = [
        (prompt, adapter, SamplingParams(temperature=1.0, top_p=top_p, seed=7))
        for prompt in PROMPTS
        for adapter in (BASE_ADAPTER, name)
        for top_p in (1.0, 0.8)
    ]
    together = [generation.sequence.output_tokens for generation in generate(llm_engine, requests)]
    alone = [generate(llm_engine, [request])[0].sequence.output_tokens for request in requests]
    assert together == alone
    llm_engine.unload_adapter(name)
