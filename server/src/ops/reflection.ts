import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "../gen/google/rpc/error_details_pb.js";
import {
  type ServerReflectionRequest,
  ServerReflection as ServerReflectionV1,
} from "../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionV1alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.js";

/** What is asked; both versions of the protocol have the same fields. */
type Query = ServerReflectionRequest["messageRequest"];

/**
 * Registers server reflection, v1 and v1alpha, for the given services, so that tools work without proto files. Only these
 * services are listed; descriptors of all files they import are served.
 */
export function reflectionRoutes(router: ConnectRouter, services: readonly DescService[]): void {
  const answer = createAnswers([...services, ServerReflectionV1, ServerReflectionV1alpha]);

  async function* serverReflectionInfo(requests: AsyncIterable<ServerReflectionRequest>) {
    const sent = new Set<DescFile>();
    for await (const originalRequest of requests) {
      const messageResponse = answer(originalRequest.messageRequest, sent);
      yield { validHost: originalRequest.host, originalRequest, messageResponse };
    }
  }
  router.service(ServerReflectionV1, { serverReflectionInfo });
  // The older version differs in the names of its types alone.
  router.service(ServerReflectionV1alpha as unknown as typeof ServerReflectionV1, { serverReflectionInfo });
}

function createAnswers(services: readonly DescService[]) {
  const index = indexFiles([...services.map((service) => service.file), file_google_rpc_error_details]);
  const list = [...new Set(services.map((service) => service.typeName))].sort().map((name) => ({ name }));

  return (query: Query, sent: Set<DescFile>) => {
    switch (query.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: list } } as const;
      case "fileByFilename":
        return sendFile(index.byName.get(query.value), `file ${query.value}`, sent);
      case "fileContainingSymbol":
        return sendFile(index.bySymbol.get(query.value.replace(/^\./, "")), `symbol ${query.value}`, sent);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = query.value;
        const file = index.extensions.get(containingType)?.get(extensionNumber);
        return sendFile(file, `extension ${extensionNumber} of ${containingType}`, sent);
      }
      case "allExtensionNumbersOfType": {
        if (!index.messages.has(query.value))
          return failure(Code.NotFound, `message ${query.value} not found`);
        const extensionNumber = [...(index.extensions.get(query.value)?.keys() ?? [])].sort((a, b) => a - b);
        const value = { baseTypeName: query.value, extensionNumber };
        return { case: "allExtensionNumbersResponse", value } as const;
      }
      default:
        return failure(Code.InvalidArgument, "the request asks for nothing this server knows");
    }
  };
}

function failure(errorCode: Code, errorMessage: string) {
  return { case: "errorResponse", value: { errorCode, errorMessage } } as const;
}

/** The file asked for comes first, as clients expect, then what it imports and the stream has not sent yet. */
function sendFile(file: DescFile | undefined, what: string, sent: Set<DescFile>) {
  if (file === undefined) return failure(Code.NotFound, `${what} not found`);
  const files = [...withImports(file)].filter((each) => each === file || !sent.has(each));
  for (const each of files) sent.add(each);
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto: files.map(serialize) } } as const;
}

const serialized = new WeakMap<DescFile, Uint8Array>();

function serialize(file: DescFile): Uint8Array {
  let bytes = serialized.get(file);
  if (bytes === undefined) {
    bytes = toBinary(FileDescriptorProtoSchema, file.proto);
    serialized.set(file, bytes);
  }
  return bytes;
}

function withImports(file: DescFile, found = new Set<DescFile>()): Set<DescFile> {
  found.add(file);
  for (const dependency of file.dependencies) {
    if (!found.has(dependency)) withImports(dependency, found);
  }
  return found;
}

function indexFiles(roots: readonly DescFile[]) {
  const files = new Set<DescFile>();
  for (const root of roots) withImports(root, files);
  const byName = new Map<string, DescFile>();
  const bySymbol = new Map<string, DescFile>();
  const messages = new Set<string>();
  const extensions = new Map<string, Map<number, DescFile>>();

  for (const file of files) {
    byName.set(file.proto.name, file);
    for (const type of nestedTypes(file)) {
      bySymbol.set(type.typeName, file);
      switch (type.kind) {
        case "message":
          messages.add(type.typeName);
          for (const { name } of [...type.fields, ...type.oneofs])
            bySymbol.set(`${type.typeName}.${name}`, file);
          break;
        case "enum": {
          // Values live beside their enum, not inside it.
          const scope = type.typeName.slice(0, -type.name.length);
          for (const { name } of type.values) bySymbol.set(scope + name, file);
          break;
        }
        case "service":
          for (const { name } of type.methods) bySymbol.set(`${type.typeName}.${name}`, file);
          break;
        case "extension": {
          const numbers = extensions.get(type.extendee.typeName) ?? new Map<number, DescFile>();
          extensions.set(type.extendee.typeName, numbers.set(type.number, file));
        }
      }
    }
  }
  return { byName, bySymbol, messages, extensions };
}
