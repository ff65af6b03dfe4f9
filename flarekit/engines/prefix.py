"""How many tokens of a prompt a server's prefix cache will serve, reckoned from what was sent to it before.

vLLM reports that number with the last chunk of a stream only, so a stream that is closed early never tells. Yet those
are the streams of every policy that acts in mid-generation: without an estimate each of them would be billed as if it
had read its whole prompt afresh. `benchmarks/` holds how often the estimate and the server's count agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class PrefixCache:
    """A model of one server's prefix cache: whole blocks, least recently used out first."""

    def __init__(self, block_size: int, capacity: int) -> None:
        """`block_size` in tokens, `capacity` in blocks."""
        self._block_size, self._capacity = block_size, capacity
        self._blocks: dict[int, None] = {}  # by the hash of all tokens up to its end; oldest first

    def empty(self) -> PrefixCache:
        """Another cache of the same size with nothing in it."""
        return PrefixCache(self._block_size, self._capacity)

    def hit(self, ids: Sequence[int]) -> int:
        """Tokens of a prompt that are served from the cache; never all of it, since the last one must be computed."""
        count = 0
        for block in self._hashes(ids[:-1]):
            if block not in self._blocks:
                break
            count += self._block_size
        return count

    def add(self, ids: Sequence[int]) -> None:
        """Remember the whole blocks of a prompt and what was generated after it."""
        for block in self._hashes(ids):
            self._blocks.pop(block, None)
            self._blocks[block] = None
        while len(self._blocks) > self._capacity:
            del self._blocks[next(iter(self._blocks))]

    def _hashes(self, ids: Sequence[int]) -> Iterator[int]:
        before = 0
        for end in range(self._block_size, len(ids) + 1, self._block_size):
            before = hash((before, tuple(ids[end - self._block_size : end])))
            yield before
