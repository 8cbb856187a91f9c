/** The operations that `crash-child.ts` does, reproducible from a seed, and what they mean. */
export const BASE_BYTES = 300_000;

export type CrashOperation =
  | { readonly kind: 'write'; readonly offset: number; readonly lengthBytes: number; readonly byte: number }
  | { readonly kind: 'truncate'; readonly sizeBytes: number };

export function makeOperation(seed: number, i: number): CrashOperation {
  const random = mix(seed * 1_000_003 + i);
  if (random % 16 === 0) return { kind: 'truncate', sizeBytes: mix(random) % 400_000 };
  return {
    kind: 'write',
    offset: mix(random) % 350_000,
    lengthBytes: 1 + (mix(random + 1) % 20_000),
    byte: random % 256,
  };
}

export function applyTo(content: Buffer, operation: CrashOperation): Buffer {
  if (operation.kind === 'truncate') return resize(content, operation.sizeBytes);
  const end = operation.offset + operation.lengthBytes;
  const changed = resize(content, Math.max(content.length, end));
  return changed.fill(operation.byte, operation.offset, end);
}

function resize(content: Buffer, sizeBytes: number): Buffer {
  const resized = Buffer.alloc(sizeBytes);
  content.copy(resized);
  return resized;
}

/** xorshift-like scrambling of a 32-bit number. */
function mix(value: number): number {
  let x = (value ^ 0x9e3779b9) >>> 0;
  for (let i = 0; i < 3; i += 1) {
    x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) >>> 0;
    x = (x ^ (x >>> 12)) >>> 0;
  }
  return x;
}
