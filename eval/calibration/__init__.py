"""Thresholds that meet a target, with guarantees."""
