import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import {
  type ReportProgressRequest,
  ReportProgressRequestSchema,
} from "../../gen/pulsewire/progress/v1/progress_pb.js";
import { violationsOf } from "../../rpc/validate.ts";

/** A message that cannot be counted, however often it is tried; says why, for a person. */
export class UncountableMessage extends Error {
  override name = "UncountableMessage";
}

/**
 * Reads a message of Kafka or SQS: ReportProgressRequest in ProtoJSON, as Pebbles has it. Fields that are not known are passed
 * over. Throws {@link UncountableMessage}.
 */
export function readMessage(
  payload: string,
  mayReport: (clientKrn: string) => boolean,
): ReportProgressRequest {
  const request = parse(payload);
  const [wrong] = violationsOf(ReportProgressRequestSchema, request);
  if (wrong) throw new UncountableMessage(`${wrong.field}: ${wrong.description}`);
  if (!request.email) {
    throw new UncountableMessage(
      "email: is missing; it says who the creator is, who alone may report on a file",
    );
  }
  if (!mayReport(request.clientKrn)) {
    throw new UncountableMessage(`clientKrn: this connector may not report on ${request.clientKrn}`);
  }
  return request;
}

function parse(payload: string): ReportProgressRequest {
  try {
    const json = JSON.parse(payload) as JsonValue;
    return fromJson(ReportProgressRequestSchema, json, { ignoreUnknownFields: true });
  } catch (error) {
    throw new UncountableMessage(`is no report in JSON: ${(error as Error).message}`);
  }
}
