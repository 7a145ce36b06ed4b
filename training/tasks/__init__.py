"""The tasks a model can be trained for and answer: one file and one line each. No torch on import."""

from __future__ import annotations

from collections.abc import Mapping

from training.tasks.base import AnyTask
from training.tasks.chat import Chat
from training.tasks.completion import Completion
from training.tasks.embedding import Embedding
from training.tasks.image_classification import ImageClassification
from training.tasks.preference import ChatPreference
from training.tasks.question_answering import QuestionAnswering
from training.tasks.seq2seq import Seq2Seq
from training.tasks.text_classification import TextClassification
from training.tasks.text_regression import TextRegression
from training.tasks.token_classification import TokenClassification

TASKS: dict[str, AnyTask] = {
    task.name: task
    for task in (
        Chat(),
        Completion(),
        Seq2Seq(),
        TextClassification(),
        TextRegression(),
        TokenClassification(),
        QuestionAnswering(),
        Embedding(),
        ImageClassification(),
    )
}

METHODS: Mapping[str, Mapping[str, AnyTask]] = {"supervised": TASKS, "dpo": {Chat.name: ChatPreference()}}
"""Method -> task's name -> what learns it. The result is a model of that task, however it was trained."""
