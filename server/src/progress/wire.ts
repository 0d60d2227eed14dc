/** How the lean path reads reports and writes their answers, which come by the thousand. */
import type { DescMethod } from "@bufbuild/protobuf";
import { ProgressService } from "../gen/pulsewire/progress/v1/progress_service_pb.js";
import type { Codec } from "../listener/lean/method.ts";
import { CountedReport } from "./counted-report.ts";
import { readReportBytes, readReportJson } from "./read-report.ts";

export const progressCodecs: ReadonlyMap<DescMethod, Codec> = new Map<DescMethod, Codec>([
  [
    ProgressService.method.reportProgress,
    {
      readProto: readReportBytes,
      readJson: readReportJson,
      writeProto: (message) => (message instanceof CountedReport ? message.bytes() : undefined),
      writeJson: (message) => (message instanceof CountedReport ? message.json() : undefined),
    },
  ],
]);
