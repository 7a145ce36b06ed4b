"""Tests and measurements on a GPU machine that has torch, transformers and PEFT, and no network.

Nothing is installed there. Only ``training`` and ``inference`` are imported. The few packages that
such a machine lacks come as wheels in ``.gpu-wheels/``, which ``make gpu-wheels`` fills on another
machine, with a network.
"""
