"""Evaluate a checkpoint or a predictions file: python eval.py checkpoint=PATH split=test."""

from engine.commands import evaluate

if __name__ == "__main__":
    evaluate()
