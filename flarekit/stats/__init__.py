"""Statistics: resampling and intervals, cross-fitting, ranking (AUROC, average precision), tests, and their power."""
