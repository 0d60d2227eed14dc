/** The part of snappyjs that is used; the package brings no types. */
declare module "snappyjs" {
  const snappy: {
    /** Throws where the bytes are no block, or one of more than `maxLength` bytes. */
    uncompress(compressed: Uint8Array, maxLength?: number): Uint8Array;
    compress(bytes: Uint8Array): Uint8Array;
  };
  export default snappy;
}
