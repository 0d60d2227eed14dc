import { close, closeSync, fsync, fsyncSync, open, openSync, readSync, writeSync } from "node:fs";

/** Writes all of it: one call may take only a part, such as when the disk fills up. */
export function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let offset = 0; offset < bytes.length; ) {
    offset += writeSync(fd, bytes, offset, bytes.length - offset, position + offset);
  }
}

/** Bytes of a file, in this buffer where they fit; fewer where the file is shorter. */
export function readRange(path: string, position: number, length: number, into: Buffer): Buffer {
  const fd = openSync(path, "r");
  try {
    const buffer = length <= into.length ? into : Buffer.allocUnsafeSlow(length);
    return buffer.subarray(0, readSync(fd, buffer, 0, length, position));
  } finally {
    closeSync(fd);
  }
}

/**
 * Forces a file or directory onto the disk without waiting for it. It is opened for that, so that nobody needs to keep
 * it open meanwhile; one that was removed needs no sync.
 */
export function syncInBackground(path: string, onError: (error: Error) => void): void {
  const tell = (error: NodeJS.ErrnoException | null) => {
    if (error && error.code !== "ENOENT") onError(error);
  };
  open(path, "r", (error, fd) => {
    tell(error);
    if (error) return;
    fsync(fd, (failed) => {
      tell(failed);
      close(fd, tell);
    });
  });
}

/** Without it a new file's name may be lost with the power, and the file with it. */
export function syncDirectory(directory: string): void {
  const fd = openSync(directory, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
