"""Incremental detokenizer: it emits complete characters, no part of a stop string, and loses no
text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from inference.generation.detokenizer import REPLACEMENT_CHARACTER, IncrementalDetokenizer, TextDelta, TokenDecoder

CORPUS = ["the quick brown fox jumps over the lazy dog", "Grüße aus Köln 你好 🎻 naïve café", "a b c\n\n  d"] * 3


def build_byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer like GPT-2's: every byte is a token, and a character can span several
    tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def build_byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer like Llama 1's: words begin with ``▁``, and unknown characters become byte
    tokens."""
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for piece in ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁th", "▁the", "th", "he", "▁t"]:
        vocabulary[piece] = len(vocabulary)
    merges = [("t", "h"), ("h", "e"), ("▁", "t"), ("▁t", "h"), ("▁th", "e")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


TOKENIZERS = {"byte-level": build_byte_level_tokenizer(), "byte-fallback": build_byte_fallback_tokenizer()}


@pytest.fixture(params=sorted(TOKENIZERS), scope="module")
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return TOKENIZERS[request.param]


def detokenize(tokenizer: PreTrainedTokenizerFast, ids: list[int], stop: list[str]) -> tuple[list[str], bool]:
    detokenizer, texts = IncrementalDetokenizer(tokenizer, stop), list[str]()
    for token in ids:
        texts.append(detokenizer.feed(token).text)
        if detokenizer.stopped:
            break
    texts.append(detokenizer.finish().text)
    return texts, detokenizer.stopped


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(TOKENIZERS)), text=st.text(max_size=40))
def test_deltas_of_any_text_join_to_its_decoding(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    texts, _ = detokenize(tokenizer, ids, [])
    assert "".join(texts) == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if REPLACEMENT_CHARACTER not in text:
        assert not any(REPLACEMENT_CHARACTER in delta for delta in texts)


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(st.integers(1, 280), max_size=20))
def test_deltas_of_any_tokens_join_to_their_decoding(ids: list[int]) -> None:
    """A model can stop in the middle of a character, or generate bytes that form no character."""
    tokenizer = TOKENIZERS["byte-level"]
    texts, _ = detokenize(tokenizer, ids, [])
    assert "".join(texts) == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@settings(max_examples=300, deadline=None)
@given(text=st.text("ab ", max_size=30), stop=st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    tokenizer = TOKENIZERS["byte-level"]
    texts, stopped = detokenize(tokenizer, tokenizer.encode(text), stop)
    is_stop_expected = any(string in text for string in stop)
    joined = "".join(texts)
    assert stopped == is_stop_expected
    assert text.startswith(joined)
    assert not any(string in joined for string in stop)
    if is_stop_expected:
        assert any(text[len(joined) :].startswith(string) for string in stop)
    else:
        assert joined == text


def test_part_of_a_stop_string_is_withheld_and_released(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.encode("the x the y", add_special_tokens=False)
    texts, stopped = detokenize(tokenizer, ids, ["the z"])
    assert not stopped
    assert "".join(texts) == "the x the y"
    for count in range(len(texts)):
        assert not "".join(texts[:count]).endswith("the ")


def test_a_character_of_four_tokens_is_emitted_at_once(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.encode("a🎺b", add_special_tokens=False)
    texts, _ = detokenize(tokenizer, ids, [])
    assert "🎺" in "".join(texts)
    assert [text for text in texts if "🎺" in text]


def test_a_stop_string_may_be_split_over_tokens_and_characters() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    texts, stopped = detokenize(tokenizer, tokenizer.encode("play 🎺🎻 now"), ["🎺🎻"])
    assert stopped
    assert "".join(texts) == "play "


def test_records_come_with_the_text_that_their_token_begins() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.encode("x🎺y")
    last = len(ids) - 1
    assert last > 2, "the character has several tokens"
    detokenizer, deltas = IncrementalDetokenizer(tokenizer, []), list[tuple[str, list[int]]]()
    for index, token in enumerate(ids):
        delta = detokenizer.feed(token, index)
        deltas.append((delta.text, delta.records))
    assert [delta for delta in deltas if delta[0]] == [("x", [0]), ("🎺", list(range(1, last))), ("y", [last])]
    assert detokenizer.finish().records == []


def test_records_carry_the_offsets_of_their_tokens() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.encode("x🎺y")
    detokenizer, delta = IncrementalDetokenizer(tokenizer, []), TextDelta()
    for token in ids:
        delta += detokenizer.feed(token, token)
    delta += detokenizer.finish()
    assert (delta.text, delta.records) == ("x🎺y", ids)
    assert delta.text_offsets == [0, *[1] * (len(ids) - 2), 2]


@pytest.mark.parametrize(("before", "text"), [("the", " he"), ("the", "he"), ("th", "é")])
def test_a_text_continues_the_tokens_before_it(tokenizer: PreTrainedTokenizerFast, before: str, text: str) -> None:
    """Some decoders drop the space at the start of a text."""
    prefix = tokenizer.encode(before, add_special_tokens=False)
    ids = tokenizer.encode(before + text, add_special_tokens=False)
    shared = next((index for index, (a, b) in enumerate(zip(prefix, ids, strict=False)) if a != b), len(prefix))
    detokenizer = IncrementalDetokenizer(tokenizer, [], ids[:shared])
    continuation = "".join([*(detokenizer.feed(token).text for token in ids[shared:]), detokenizer.finish().text])
    decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert decoded == tokenizer.decode(ids[:shared], clean_up_tokenization_spaces=False) + continuation


def test_records_of_a_stop_string_are_dropped_and_of_withheld_text_released() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    for stop, expected in (("zz!", "ab"), ("zz?", "abzz!")):
        detokenizer, records = IncrementalDetokenizer(tokenizer, [stop]), list[str]()
        for char in "abzz!":
            [token] = tokenizer.encode(char)
            records += detokenizer.feed(token, char).records
        records += detokenizer.finish().records
        assert "".join(records) == expected


def test_special_tokens_have_no_text() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    texts, _ = detokenize(tokenizer, [*tokenizer.encode("ab"), tokenizer.eos_token_id], [])
    assert "".join(texts) == "ab"


@pytest.mark.parametrize("text", ["the", " the", "é", "🎺", "\n", "你"])
def test_bytes_of_tokens_join_to_the_texts(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    token_decoder, ids = TokenDecoder(tokenizer), tokenizer.encode(text, add_special_tokens=False)
    data = bytes(byte for token in ids for byte in token_decoder.to_bytes(token))
    assert data.decode().strip() == text.strip()
