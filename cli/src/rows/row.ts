/** A row of a file, or why it is none. */
export type Row =
  | {
      /** Where it begins, from 1. */
      readonly line: number;
      /** What it is recognised by. */
      readonly text: string;
      readonly value: Readonly<Record<string, unknown>>;
    }
  | { readonly line: number; readonly problem: string };

/** Thrown where a row cannot become an event or sample; the message goes on after "Line 7: ". */
export class RowError extends Error {
  override readonly name = "RowError";
}
