import { promisify } from "node:util";
import { constants, gzip } from "node:zlib";
import { compressionGzip } from "@connectrpc/connect-node";

const compress = promisify(gzip);

/** Gzip at its fastest: batches become a tenth larger than at the usual level, for a third of the time. */
export const fastGzip: typeof compressionGzip = {
  ...compressionGzip,
  compress: (bytes) => compress(bytes, { level: constants.Z_BEST_SPEED }),
};
