"""Evaluation: from questions to runs, results, analyses, thresholds and a report."""
