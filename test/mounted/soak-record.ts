/** Contents that show by themselves whether they are whole: a line with number and size, then as many bytes that follow from the number. */

export function record(number: number, sizeBytes: number): Buffer {
  const head = Buffer.from(`record ${number} ${sizeBytes}\n`);
  return Buffer.concat([head, Buffer.alloc(sizeBytes, `${number}.`)]);
}

/** Any number of whole records. */
export function isWhole(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; ) {
    const line =
      bytes
        .subarray(at, at + 64)
        .toString('latin1')
        .split('\n', 1)[0] ?? '';
    const match = /^record (\d+) (\d+)$/.exec(line);
    if (match === null) return false;
    const expected = record(Number(match[1]), Number(match[2]));
    if (!bytes.subarray(at, at + expected.length).equals(expected)) return false;
    at += expected.length;
  }
  return true;
}
