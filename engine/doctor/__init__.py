"""Warns of what would waste a run: before its first epoch, in its first steps, once evaluated.

It refuses nothing and changes nothing: it draws no random number and updates no statistics. What
concerns boxes or slots a head says (`HeadOptions.findings`), of predictions a metric
(`MetricOptions.findings`).
"""
