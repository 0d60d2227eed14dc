import { Pause } from "./pause.ts";
import { type RetryPolicy, retryDelayMs } from "./retry.ts";

/** How a gateway comes back, so that many that come back together do not overrun the server. */
export interface PaceOptions {
  /** A gateway that begins with a backlog waits a random time up to this, in milliseconds. Default 2,000. */
  startJitterMs?: number;
  /**
   * After an outage batches are this far apart at first, in milliseconds, give or take a half; each that goes through
   * halves it. Less after a short outage. Default 250.
   */
  rampMs?: number;
}

/** A gap shorter than this is none. */
const shortestGapMs = 10;
/** The ramp begins with this part of the outage. */
const rampPart = 1 / 20;
/** The first probe may take this long, each further one twice as long: a server that hangs is left soon. */
const firstProbeMs = 2_000;

/**
 * The one circuit breaker of all that a gateway sends. After a failure nothing is sent for a while, then a single
 * batch, the probe. When it goes through the others follow, first slowly, then at full speed.
 */
export class Breaker {
  readonly #policy: RetryPolicy;
  readonly #rampMs: number;
  readonly #resume: (() => void)[] = [];
  readonly #pause = new Pause(() => this.#tell());
  readonly #gap = new Pause(() => this.#tell());
  #failures = 0;
  #openSince = 0;
  /** Rises with each failure: what began before says nothing of the server now. */
  #epoch = 0;
  #successes = 0;
  #probing = false;
  #gapMs = 0;

  constructor(policy: RetryPolicy, { rampMs = 250 }: PaceOptions = {}) {
    this.#policy = policy;
    this.#rampMs = rampMs;
  }

  /** Called whenever something may be sent again. */
  onResume(resume: () => void): void {
    this.#resume.push(resume);
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Batches that went through since the beginning. */
  get successes(): number {
    return this.#successes;
  }

  /** Whether a batch may be sent now. */
  get admits(): boolean {
    return !this.#pause.active && !this.#gap.active && !this.#probing;
  }

  /** Milliseconds that a call may take now; `undefined` for the usual time. */
  get callLimitMs(): number | undefined {
    return this.#failures > 0 ? firstProbeMs * 2 ** (this.#failures - 1) : undefined;
  }

  /** Sends nothing for a while, without a failure. */
  delay(ms: number): void {
    if (ms > 0) this.#pause.begin(ms);
  }

  /** A batch is sent. Returns what its end is told with. */
  begin(): number {
    if (this.#failures > 0) this.#probing = true;
    if (this.#gapMs > 0) this.#gap.begin(this.#gapMs * (0.5 + Math.random()));
    return this.#epoch;
  }

  /** It ended, and the server is well. */
  succeeded(epoch: number): void {
    if (epoch !== this.#epoch) return;
    this.#successes++;
    this.#probing = false;
    this.#gapMs = this.#gapMs / 2 > shortestGapMs ? this.#gapMs / 2 : 0;
    if (this.#failures === 0) return;
    const gapMs = Math.min(this.#rampMs, (performance.now() - this.#openSince) * rampPart);
    this.#gapMs = gapMs > shortestGapMs ? gapMs : 0;
    this.#failures = 0;
    if (this.#gapMs > 0) this.#gap.begin(this.#gapMs * Math.random());
    this.#tell();
  }

  /** It ended without telling how the server is. */
  ended(epoch: number): void {
    if (epoch !== this.#epoch || !this.#probing) return;
    this.#probing = false;
    this.#tell();
  }

  /**
   * It failed. Those that were under way together fail together: that is one failure of the server, not several.
   *
   * @returns milliseconds until the next try
   */
  failed(epoch: number, serverDelayMs: number | undefined): number {
    if (epoch === this.#epoch) {
      if (this.#failures++ === 0) this.#openSince = performance.now();
      this.#epoch++;
      this.#probing = false;
      this.#gapMs = 0;
      this.#gap.end();
    }
    const delayMs = retryDelayMs(this.#failures, serverDelayMs, this.#policy);
    this.#pause.begin(delayMs);
    return delayMs;
  }

  /** Nothing is waited for any more. */
  end(): void {
    this.#pause.end();
    this.#gap.end();
  }

  /** As Pause.hold(). */
  hold(work: () => Promise<void>, deadlineMs?: number): Promise<void> {
    return this.#pause.hold(() => this.#gap.hold(work), deadlineMs);
  }

  #tell(): void {
    for (const resume of this.#resume) resume();
  }
}
