/** Says whether something may be done once more: `burst` times at once, and `perSecond` times in each second after that. */
export function createTokens(burst: number, perSecond: number): () => boolean {
  let left = burst;
  let refilledAt = performance.now();
  return () => {
    if (left < burst) {
      const now = performance.now();
      left = Math.min(burst, left + ((now - refilledAt) / 1_000) * perSecond);
      refilledAt = now;
    } else refilledAt = performance.now();
    if (left < 1) return false;
    left--;
    return true;
  };
}
