/** The peer of single calls: a grpc-js server whose one unary method does nothing, not even decode. */
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { IngestionService } from "../../../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";

const bytes = (value: Buffer) => value;
const { typeName, method } = IngestionService;
const server = new Server();
server.addService(
  {
    noop: {
      path: `/${typeName}/${method.ingestEvent.name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes,
    },
  },
  { noop: (_: unknown, callback: (error: null, answer: Buffer) => void) => callback(null, answer) },
);
/** An answer with an `event_id`, so that the load takes it for a good one. */
const answer = Buffer.from([0x0a, 1, 0x78]);
server.bindAsync(`127.0.0.1:${process.env.PEER_PORT}`, ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
process.on("disconnect", () => process.exit());
