"""Generation speed: ``python -m benchmarks.gpu.serving CONTESTANT SHAPE ADAPTERS BASE DEVICE``.

A batch of 32 sequences uses 1 or 16 adapters of one base. Luthier runs its engine, which streams
each token. The peer runs ``generate`` of transformers with PEFT, which returns at the end.
"""

from __future__ import annotations

import json
import queue
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.gpu.shapes import LORA_RANK, TINY_SHAPES
from inference.generation.detokenizer import IncrementalDetokenizer
from inference.generation.llm_engine import LLMEngine
from inference.generation.sampling import SamplingParams
from inference.generation.scheduler import SequenceOutput, SequenceState, emit_outputs
from training.artifacts import serving

BATCH_SIZE = 32
PROMPT_TOKENS, NEW_TOKENS = 128, 128
TINY_PROMPT_TOKENS, TINY_NEW_TOKENS = 8, 4
END_TOKEN = 0
ROUNDS = 3
"""The fastest round counts; the first allocates memory."""


def create_adapters(base: Path, folder: Path, count: int) -> list[Path]:
    """Save random adapters of the base."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    config = LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    paths = []
    for number in range(count):
        torch.manual_seed(number)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.01)
        paths.append(folder / str(number))
        adapted.save_pretrained(paths[-1])
    return paths


def build_prompts(vocab: int, tokens: int) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(1, vocab) for _ in range(tokens)] for _ in range(BATCH_SIZE)]


def measure_engine(
    base: Path, adapters: Sequence[Path], prompts: list[list[int]], new_tokens: int, device: torch.device
) -> float:
    """Return the tokens per second of the engine."""
    served = serving.load(base, None, "completion", torch.bfloat16, device.type)
    engine = LLMEngine(served, len(prompts[0]) + new_tokens, BATCH_SIZE, "benchmark", emit_outputs)
    names = [engine.load_adapter(path) for path in adapters]
    params = SamplingParams(temperature=0, logit_bias={END_TOKEN: -100.0})
    best = 0.0
    for _ in range(ROUNDS):
        outputs: queue.Queue[SequenceOutput] = queue.Queue()
        sequences = [
            SequenceState(
                prompt,
                names[index % len(names)],
                params,
                IncrementalDetokenizer(engine.tokenizer, ()),
                new_tokens,
                outputs.put,
            )
            for index, prompt in enumerate(prompts)
        ]
        start = time.perf_counter()
        engine.scheduler.submit(sequences)
        unfinished = len(sequences)
        while unfinished:
            output = outputs.get(timeout=300)
            if output.error:
                raise output.error
            unfinished -= output.is_final
        best = max(best, len(prompts) * new_tokens / (time.perf_counter() - start))
    engine.scheduler.close()
    return best


def measure_peer(
    base: Path, adapters: Sequence[Path], prompts: list[list[int]], new_tokens: int, device: torch.device
) -> float:
    """Return the tokens per second of ``generate``."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).to(device)
    for index, path in enumerate(adapters):
        if index == 0:
            model = PeftModel.from_pretrained(model, path, adapter_name="0")
        else:
            model.load_adapter(path, adapter_name=str(index))
    model.eval()
    ids = torch.tensor(prompts, device=device)
    # With one adapter, the peer needs no mixed batch.
    mixed = {"adapter_names": [str(index % len(adapters)) for index in range(len(prompts))]}
    options = {} if len(adapters) == 1 else mixed
    best = 0.0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            pad_token_id=END_TOKEN,
            **options,
        )
        count = output[:, ids.shape[1] :].cpu().numel()
        best = max(best, count / (time.perf_counter() - start))
    return best


MEASUREMENTS = {"luthier": measure_engine, "transformers_peft": measure_peer}


def main(contestant: str, shape_name: str, num_adapters: int, base: Path, device: torch.device) -> dict[str, Any]:
    is_tiny = shape_name in TINY_SHAPES
    prompt_tokens = TINY_PROMPT_TOKENS if is_tiny else PROMPT_TOKENS
    new_tokens = TINY_NEW_TOKENS if is_tiny else NEW_TOKENS
    # The tokenizer of the base has 256 bytes.
    prompts = build_prompts(256, prompt_tokens)
    with tempfile.TemporaryDirectory() as folder:
        adapters = create_adapters(base, Path(folder), num_adapters)
        return {"tokens_per_s": MEASUREMENTS[contestant](base, adapters, prompts, new_tokens, device)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), torch.device(sys.argv[5]))))
