"""Warns before its first epoch of what would waste a run.

It refuses nothing and changes nothing: it draws no random number and updates no statistics. What
concerns boxes or slots a head says (`HeadOptions.findings`).
"""
