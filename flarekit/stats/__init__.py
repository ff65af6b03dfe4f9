"""Statistics: the bootstrap, intervals, ranking (AUROC, average precision), tests and their correction."""
