"""Peers are timed in turn, and the first turn does not count."""

import ast

from command_line import ROOT

from engine.bench.alternate import alternate


def test_peers_take_turns_and_the_first_turn_does_not_count(monkeypatch):
    clock = {"wall": 0.0, "cpu": 0.0}
    monkeypatch.setattr("time.perf_counter", lambda: clock["wall"])
    monkeypatch.setattr("time.process_time", lambda: clock["cpu"])
    calls = []

    def peer(name):
        def run():
            calls.append(name)
            clock["wall"] += len(calls)
            clock["cpu"] += 10 * len(calls)

        return run

    wall, cpu = alternate({"a": peer("a"), "b": peer("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert wall == {"a": [3, 5], "b": [4, 6]}
    assert cpu == {"a": [30, 50], "b": [40, 60]}


def test_the_turns_are_written_once():
    names = [
        node.name.strip("_")
        for folder in ("engine", "detect")
        for path in (ROOT / folder / "bench").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert names.count("alternate") == 1
