import { read } from 'node:fs';
import { promisify } from 'node:util';
import { assert } from '../base/assert.ts';
import type { FileSlice } from '../cache/contract.ts';

const readAt = promisify(read);

/** The bytes of the slice, which is released. */
export async function readSlice(slice: FileSlice): Promise<Uint8Array> {
  try {
    const buffer = Buffer.allocUnsafeSlow(slice.lengthBytes);
    const { bytesRead } = await readAt(slice.fd, buffer, 0, slice.lengthBytes, slice.offset);
    assert(bytesRead === slice.lengthBytes, 'a verified slice is in the file');
    return buffer;
  } finally {
    slice.release();
  }
}
