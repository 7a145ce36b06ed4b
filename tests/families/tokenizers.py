"""Byte-level and SentencePiece-like tokenizers with the special tokens of a model family."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CONTEXT_LENGTH = 1024
SPACE = "\u2581"
"""Character that SentencePiece writes for a space."""


@dataclass(frozen=True)
class TokenizerSpec:
    """Special tokens of a family, by the names that its real tokenizer uses."""

    eos: str
    pad: str | None = None
    """None: the tokenizer defines no padding token."""
    bos: str | None = None
    adds_bos: bool = False
    """True if the tokenizer itself puts ``bos`` before every text."""
    adds_eos: bool = False
    """True if the tokenizer itself puts ``eos`` after every text, as T5's and BART's do."""
    control: tuple[str, ...] = ()
    """Further control tokens, such as those around a turn."""
    added: tuple[str, ...] = ()
    """Added tokens that are not control tokens, such as Qwen's ``<think>``."""
    sentencepiece: bool = False
    """True for byte fallback and a space before every text, as Llama 2's and Mistral's have."""

    def build(self, chat_template: str | None) -> PreTrainedTokenizerFast:
        """Build the tokenizer: special tokens first, then one token per byte."""
        special = list(dict.fromkeys(token for token in (self.pad, self.bos, self.eos, *self.control) if token))
        backend = self._build_sentencepiece(special) if self.sentencepiece else self._build_bytes(special)
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in self.added])
        backend.post_processor = self._build_post_processor(backend) or backend.post_processor
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend,
            eos_token=self.eos,
            pad_token=self.pad,
            bos_token=self.bos,
            extra_special_tokens=list(self.control),
            model_max_length=CONTEXT_LENGTH,
            clean_up_tokenization_spaces=False,
        )
        tokenizer.chat_template = chat_template
        return tokenizer

    def _build_bytes(self, special: list[str]) -> Tokenizer:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        return backend

    def _build_sentencepiece(self, special: list[str]) -> Tokenizer:
        letters = [SPACE, *(chr(code) for code in range(33, 127))]
        tokens = [*special, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
        vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
        backend.decoder = decoders.Sequence(
            [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return backend

    def _build_post_processor(self, backend: Tokenizer) -> processors.TemplateProcessing | None:
        before = [self.bos] if self.adds_bos and self.bos else []
        after = [self.eos] if self.adds_eos else []
        if not (before or after):
            return None
        single = " ".join([*before, "$A", *after])
        pair = " ".join([*before, "$A", *after, "$B", *after])
        used = [(token, backend.token_to_id(token)) for token in dict.fromkeys([*before, *after])]
        return processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
