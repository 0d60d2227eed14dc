/**
 * What runs containers: one contract for Docker, Kubernetes and local processes, with one test suite. A runtime holds
 * no state that counts: what there is it tells from its own labels, what is wanted comes from the database. Every call
 * may be repeated.
 */
import type { JsonValue } from "@bufbuild/protobuf";

/** What a container is made from, with the secrets in clear. */
export interface ContainerSpec {
  readonly tenantId: string;
  readonly functionId: string;
  readonly functionName: string;
  readonly namespace: string;
  readonly template: number;
  readonly image: string;
  /** Of standing replicas; empty: the image's own. */
  readonly command: readonly string[];
  /** Of invocations; empty: `command`. */
  readonly invocationCommand: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly registry: { readonly username: string; readonly password: string } | undefined;
  readonly cpuMillicores: number;
  readonly memoryBytes: bigint;
}

/** What is wanted of a function's standing containers. */
export interface WantedFunction extends ContainerSpec {
  readonly replicas: number;
  readonly warmPoolSize: number;
  /** Until then no container is started, for the last ones failed; undefined: at once. */
  readonly notBefore: Date | undefined;
}

/** One attempt of an invocation. */
export interface WantedRun extends ContainerSpec {
  /** `<function>-invoke-<unix seconds>`, as callers know it. */
  readonly jobName: string;
  readonly invocationId: string;
  readonly attempt: number;
  /** JSON. */
  readonly input: string | undefined;
  readonly timeoutMs: number;
}

/** A container, pod or process that this installation made. */
export interface Unit {
  /** Unique for good: a container that is made anew has another. */
  readonly id: string;
  readonly kind: "replica" | "run" | "warm";
  readonly tenantId: string;
  readonly functionId: string;
  readonly template: number;
  /** Its name in log lines. */
  readonly replica: string;
  readonly slot: number;
  /** Of runs. */
  readonly invocationId: string | undefined;
  readonly attempt: number;
  readonly state: "created" | "running" | "ended";
  /** Runs and is healthy. */
  readonly ready: boolean;
  readonly exitCode: number | undefined;
  /** Why it ended or does not run, for a person; empty where there is nothing to say. */
  readonly reason: string;
  readonly startedAt: Date | undefined;
  readonly endedAt: Date | undefined;
}

/** How the standing containers of a function are. */
export interface Found {
  /** Ready, of the wanted template. */
  readonly available: number;
  /** Ready, of an older template. */
  readonly outdated: number;
  /** What is waited for or went wrong, for a person; empty: nothing. */
  readonly reason: string;
  /** Trying again will not help by itself, such as an image that does not exist. */
  readonly hopeless: boolean;
  /** Containers that were found to have failed in this pass and not before. */
  readonly newFailures: number;
  /** When to look again although nothing is heard, milliseconds; undefined: no need. */
  readonly againInMs: number | undefined;
}

export interface RunEnd {
  /** Undefined: the container was lost. */
  readonly exitCode: number | undefined;
  readonly reason: string;
  readonly startedAt: Date | undefined;
  readonly endedAt: Date;
}

/** A line as it was written. */
export interface RawLine {
  /** Nanoseconds since 1970, in decimal. */
  readonly time: string;
  readonly stream: 1 | 2;
  readonly text: string;
  readonly continues: boolean;
}

export interface LogBatch {
  readonly lines: readonly RawLine[];
  /** Where reading goes on after these lines. */
  readonly position: JsonValue;
}

/** The result file of a run. */
export interface ResultFile {
  readonly bytes: Buffer;
  readonly truncated: boolean;
}

/** The runtime cannot be reached or refuses all work; the message is for people. */
export class RuntimeUnavailable extends Error {
  override name = "RuntimeUnavailable";
}

/** This container cannot be made. The message is for people. */
export class CannotStart extends Error {
  override name = "CannotStart";
  /** Trying again later may help, and is no attempt: such as an image that is being fetched. */
  readonly wait: boolean;

  constructor(message: string, { wait }: { wait: boolean }) {
    super(message);
    this.wait = wait;
  }
}

export interface Runtime {
  readonly name: string;
  /** All that this installation made and that is still there. Rejects with RuntimeUnavailable. */
  list(): Promise<Unit[]>;
  /** Tells when something of ours may have changed, until the connection is lost or the signal aborts it. */
  watch(onChange: (functionId: string | undefined) => void, signal: AbortSignal): Promise<void>;
  /** Takes the standing containers of a function one step nearer to what is wanted. `units` are the function's. */
  apply(wanted: WantedFunction, units: readonly Unit[]): Promise<Found>;
  /** Stops all standing containers of a function that is deleted; true when none runs any more. */
  retire(functionId: string, namespace: string, units: readonly Unit[]): Promise<boolean>;
  /** Starts a run, or finds the one that was started. Rejects with CannotStart. */
  startRun(run: WantedRun): Promise<Unit>;
  /** Resolves when the run has ended. Rejects with the signal's reason. */
  waitRun(unit: Unit, signal: AbortSignal): Promise<RunEnd>;
  /** SIGTERM and, 10 seconds later, SIGKILL. Does not wait for the end. */
  stop(unit: Unit): Promise<void>;
  /** What the run wrote to its result file; undefined: nothing. */
  readResult(unit: Unit): Promise<ResultFile | undefined>;
  /** What a container wrote after a position; goes on until it has ended and all is read. Rejects when the connection is lost. */
  readLog(unit: Unit, position: JsonValue | undefined, signal: AbortSignal): AsyncIterable<LogBatch>;
  /** Removes a unit that has ended and whose log is read, or that is an orphan. */
  remove(unit: Unit): Promise<void>;
  /** Removes what else it made for tenants that have no unit any more, where it makes such things. */
  removeUnused?: ((tenantsInUse: ReadonlySet<string>) => Promise<void>) | undefined;
  close(): Promise<void>;
}

/** Longest result that is kept, and longest line of a log, bytes. */
export const maxResultBytes = 256 * 1024;
export const maxLineBytes = 64 * 1024;
/** Input that also stands in PULSEWIRE_INPUT. */
export const maxInputVariableBytes = 32 * 1024;
/** Between SIGTERM and SIGKILL. */
export const stopGraceSeconds = 10;

/** The variables that every container has besides its own. */
export function standardEnv(spec: ContainerSpec): Record<string, string> {
  return {
    ...spec.env,
    PULSEWIRE_FUNCTION: spec.functionName,
    PULSEWIRE_NAMESPACE: spec.namespace,
  };
}

/** The variables of a run besides these. */
export function runEnv(
  { invocationId, attempt, input }: Pick<WantedRun, "invocationId" | "attempt" | "input">,
  files: { readonly input: string; readonly result: string },
): Record<string, string> {
  return {
    PULSEWIRE_INVOCATION_ID: invocationId,
    PULSEWIRE_ATTEMPT: String(attempt),
    PULSEWIRE_RESULT_FILE: files.result,
    ...(input !== undefined && {
      PULSEWIRE_INPUT_FILE: files.input,
      ...(Buffer.byteLength(input) <= maxInputVariableBytes && { PULSEWIRE_INPUT: input }),
    }),
  };
}

/** The command of a run; empty: the image's own. */
export function runCommand({ invocationCommand, command }: ContainerSpec): readonly string[] {
  return invocationCommand.length > 0 ? invocationCommand : command;
}
