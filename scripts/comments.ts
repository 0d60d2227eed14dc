/** Takes the comments of the contract, which generated code leaves out, for the REST documentation. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";

/** Numbers of the fields of descriptor.proto that a path of a comment is made of. */
const place = {
  file: { message: 4, enum: 5, service: 6 },
  message: { field: 2, message: 3, enum: 4, oneof: 8 },
  enumValue: 2,
  method: 2,
} as const;

/** Writes the comments below `folder`, by the full name of what they stand at. */
export function writeComments(folder: string): void {
  const temporary = mkdtempSync(join(tmpdir(), "pulsewire-comments-"));
  try {
    const image = join(temporary, "contract.binpb");
    execFileSync("buf", ["build", ".", "--path", "proto/pulsewire", "-o", image], { stdio: "inherit" });
    const { file } = fromBinary(FileDescriptorSetSchema, readFileSync(image));
    const own = file.filter((each) => each.package.startsWith("pulsewire."));
    const comments = Object.fromEntries(own.flatMap(commentsOf).sort(([a], [b]) => (a < b ? -1 : 1)));
    writeFileSync(
      join(folder, "server/src/gen/comments.json"),
      `${JSON.stringify(comments, undefined, 1)}\n`,
    );
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function commentsOf(file: FileDescriptorProto): [name: string, comment: string][] {
  const names = new Map<string, string>();
  const name = (path: readonly number[], full: string) => names.set(path.join(), full);
  const nameEnum = (path: readonly number[], prefix: string, desc: EnumDescriptorProto) => {
    name(path, `${prefix}.${desc.name}`);
    for (const [index, value] of desc.value.entries()) {
      name([...path, place.enumValue, index], `${prefix}.${desc.name}.${value.name}`);
    }
  };
  const nameMessage = (path: readonly number[], prefix: string, desc: DescriptorProto) => {
    const full = `${prefix}.${desc.name}`;
    name(path, full);
    for (const [index, field] of desc.field.entries()) {
      name([...path, place.message.field, index], `${full}.${field.name}`);
    }
    for (const [index, inner] of desc.nestedType.entries()) {
      nameMessage([...path, place.message.message, index], full, inner);
    }
    for (const [index, inner] of desc.enumType.entries())
      nameEnum([...path, place.message.enum, index], full, inner);
  };
  for (const [index, message] of file.messageType.entries()) {
    nameMessage([place.file.message, index], file.package, message);
  }
  for (const [index, desc] of file.enumType.entries()) nameEnum([place.file.enum, index], file.package, desc);
  for (const [index, service] of file.service.entries()) {
    name([place.file.service, index], `${file.package}.${service.name}`);
    for (const [at, method] of service.method.entries()) {
      name([place.file.service, index, place.method, at], `${file.package}.${service.name}.${method.name}`);
    }
  }
  return (file.sourceCodeInfo?.location ?? []).flatMap(({ path, leadingComments }) => {
    const full = names.get(path.join());
    return full && leadingComments ? [[full, unwrap(leadingComments)] as [string, string]] : [];
  });
}

/** Lines of one paragraph become one line. */
function unwrap(comment: string): string {
  return comment
    .split(/\n\s*\n/)
    .map((paragraph) => paragraph.replace(/\s*\n\s*/g, " ").trim())
    .join("\n\n")
    .trim();
}
