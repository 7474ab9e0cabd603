"""`report.html`: what a run or an evaluation found, in one page that needs nothing else.

A metric says what is right and wrong (`MetricOptions.diagnose` returns a `Diagnosis`); this package
draws it and knows no task.
"""
