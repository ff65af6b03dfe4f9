"""Who watches requests: logs, metrics and traces."""
